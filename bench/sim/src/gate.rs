//! The gate: sends copies to their coordinators when they are due, as far as there is credit.

use crate::plant::Planted;
use crate::wire::publish;
use dataplane::msg::IngestHeader;
use dataplane::partition::Partition;
use dataplane::tile::Stamp;
use dataplane::topo::ExternalOut;
use std::collections::{BTreeMap, VecDeque};

/// One copy on its way to a coordinator.
#[derive(Clone, Debug)]
pub struct Copy {
    pub token: u64,
    pub source: u32,
    pub bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// By step and token.
    due: BTreeMap<(u64, u64), Copy>,
    ready: Vec<VecDeque<Copy>>,
    /// Copies sent to each coordinator.
    pub sent: Vec<u64>,
    /// Sends that met a full link.
    pub pushed_back: u64,
    buffer: Vec<u8>,
}

impl Gate {
    pub fn new(validators: u16) -> Self {
        let n = usize::from(validators);
        Self {
            due: BTreeMap::new(),
            ready: vec![VecDeque::new(); n],
            sent: vec![0; n],
            pushed_back: 0,
            buffer: Vec::new(),
        }
    }

    /// To be sent at `step` or later.
    pub fn add(&mut self, step: u64, copy: Copy) {
        self.due.insert((step, copy.token), copy);
    }

    /// Copies that were not sent yet.
    pub fn waiting(&self) -> usize {
        self.due.len() + self.ready.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Everything that is to come is due now.
    pub fn hurry(&mut self) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_values().enumerate().map(|(i, copy)| ((0, i as u64), copy)).collect();
    }

    /// Sends up to `most` copies to each coordinator; gives how many went.
    pub fn send(
        &mut self,
        step: u64,
        most: u64,
        partition: &Partition,
        outs: &mut [ExternalOut],
        plant: &mut Planted,
        mut each: impl FnMut(u64, u64, &[u8]),
    ) -> u64 {
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > step {
                break;
            }
            let copy = entry.remove();
            let to = partition.validator_of_bytes(&copy.bytes);
            self.ready[usize::from(to)].push_back(copy);
        }
        let mut count = 0;
        for (validator, ready) in self.ready.iter_mut().enumerate() {
            for _ in 0..most {
                let Some(copy) = ready.front() else { break };
                let header = IngestHeader {
                    token: copy.token,
                    source: copy.source,
                    ..IngestHeader::default()
                };
                self.buffer.clear();
                self.buffer.resize(IngestHeader::LEN, 0);
                header.write(&mut self.buffer);
                self.buffer.extend_from_slice(&copy.bytes);
                if !publish(&mut outs[validator], 0, Stamp(0), &self.buffer, copy.token) {
                    self.pushed_back += 1;
                    break;
                }
                each(validator as u64, copy.token, &copy.bytes);
                if plant.repeats_copy() {
                    publish(&mut outs[validator], 0, Stamp(0), &self.buffer, copy.token);
                }
                ready.pop_front();
                self.sent[validator] += 1;
                count += 1;
            }
        }
        count
    }
}
