//! Who waits for what, and who is to be told.
//!
//! One pool of waiters serves all lists: a coin's (hanging on its claim), a transaction's (hanging on its record), the *ripe*
//! lists (a transaction was decided, its waiters are still to be handed on), and one wake list for each validator, from which
//! messages leave when there is reply credit to spare. A waiter changes lists, it is never copied, so a wake-up can be late but
//! not lost, and the pool's size bounds them all. Nothing here allocates after [`Waits::new`].

use crate::slab::Handle;
use consensus::hash::TxId;
use dataplane::msg::{Expect, Ticket, WakeReason};

/// A waiter's place in the pool, plus one. Zero is nobody.
pub(crate) type WaiterId = u32;
/// Nobody.
pub(crate) const NOBODY: WaiterId = 0;

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A held coin, and its id is smaller than the holder's: it keeps what it has, and the coin may be given to it.
    Queue,
    /// A held coin, and its id is larger: it has let go of everything else, and is told when the coin is free or spent.
    Yielded,
    /// The decision of an announced parent.
    Parent,
    /// Any news of a transaction, on behalf of an orphan.
    Orphan,
}

/// What a waiter is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing; the entry was ended while it stood in a wake list.
    None,
    /// The coin is yours.
    Granted {
        /// See `InputVerdict::Reserved`.
        parent_seq: u64,
    },
    /// The coin went to a smaller id; the waiter stays in the coin's list.
    Busy {
        /// The new holder.
        by: TxId,
    },
    /// The coin was spent.
    Spent {
        /// By whom.
        by: TxId,
    },
    /// Ask again, or give up.
    Wake(WakeReason),
    /// No room to go on waiting.
    Overloaded,
}

/// One entry of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    /// The waiting transaction; of an orphan's watch, the awaited one.
    pub txid: TxId,
    pub validator: u16,
    pub ticket: Ticket,
    /// The input; of an orphan's watch, the awaited output.
    pub vin: u32,
    pub kind: Kind,
    /// What the scripts were run with, compared again before a coin is given.
    pub expect: Expect,
    /// Context: block and height.
    pub block: u32,
    pub height: u32,
    pub news: News,
    /// In a coin's, a transaction's or a ripe list.
    pub listed: bool,
    /// In a wake list.
    pub queued: bool,
    /// Next in the list it is in.
    pub next: WaiterId,
    /// Next in the wake list.
    pub next_wake: WaiterId,
}

impl Waiter {
    /// An entry that stands in no list yet.
    pub fn new(validator: u16, ticket: Ticket, txid: TxId, vin: u32, kind: Kind) -> Self {
        Self {
            txid,
            validator,
            ticket,
            vin,
            kind,
            expect: Expect::default(),
            block: 0,
            height: 0,
            news: News::None,
            listed: false,
            queued: false,
            next: NOBODY,
            next_wake: NOBODY,
        }
    }

    /// Whether a release by this validator and ticket ends this entry.
    pub fn ends_with(&self, validator: u16, ticket: Ticket) -> bool {
        self.validator == validator
            && self.ticket.slot == ticket.slot
            && self.ticket.attempt <= ticket.attempt
    }
}

/// What became of the transaction that a ripe list waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ripe {
    /// First of the list.
    pub head: WaiterId,
    /// The transaction.
    pub txid: TxId,
    /// What its waiters are told.
    pub reason: WakeReason,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Waits {
    pool: Vec<Waiter>,
    max: usize,
    free: WaiterId,
    used: u32,
    /// First and last of each validator's wake list.
    wakes: Vec<(WaiterId, WaiterId)>,
    /// Ring of ripe lists; each has at least one waiter, so the pool's size bounds it.
    ripe: Vec<Ripe>,
    ripe_first: usize,
    ripe_len: usize,
}

impl Waits {
    pub fn new(max: u32, validators: u16) -> Self {
        let empty = Ripe { head: NOBODY, txid: TxId([0; 32]), reason: WakeReason::Free };
        Self {
            pool: Vec::with_capacity(max as usize),
            max: max as usize,
            free: NOBODY,
            used: 0,
            wakes: vec![(NOBODY, NOBODY); usize::from(validators)],
            ripe: vec![empty; max.max(1) as usize],
            ripe_first: 0,
            ripe_len: 0,
        }
    }

    /// Entries in all lists.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// True when nobody else can wait.
    pub fn is_full(&self) -> bool {
        self.used as usize == self.max
    }

    #[inline]
    pub fn get(&self, id: WaiterId) -> &Waiter {
        &self.pool[id as usize - 1]
    }

    #[inline]
    pub fn get_mut(&mut self, id: WaiterId) -> &mut Waiter {
        &mut self.pool[id as usize - 1]
    }

    /// Puts an entry in front of the list that starts at `head`; the caller has asked [`Waits::is_full`].
    pub fn add(&mut self, mut waiter: Waiter, head: WaiterId) -> WaiterId {
        assert!(!self.is_full(), "a pool of {} waiters is full", self.max);
        waiter.next = head;
        waiter.listed = true;
        self.used += 1;
        if self.free == NOBODY {
            self.pool.push(waiter);
            return self.pool.len() as WaiterId;
        }
        let id = self.free;
        self.free = self.get(id).next;
        *self.get_mut(id) = waiter;
        id
    }

    /// Puts an entry into a list of (head, entries) that holds at most `most`; the list with it, or `None` where there is no room.
    pub fn join(
        &mut self,
        (head, count): (WaiterId, u16),
        most: u16,
        waiter: Waiter,
    ) -> Option<(WaiterId, u16)> {
        if count >= most || self.is_full() {
            return None;
        }
        Some((self.add(waiter, head), count + 1))
    }

    fn release(&mut self, id: WaiterId) {
        let free = self.free;
        let waiter = self.get_mut(id);
        waiter.next = free;
        waiter.listed = false;
        waiter.queued = false;
        self.free = id;
        self.used -= 1;
    }

    /// Takes entries that `ends` says so out of the list at `head`; gives the new head and how many went.
    pub fn retain(&mut self, head: WaiterId, ends: impl Fn(&Waiter) -> bool) -> (WaiterId, u16) {
        let mut first = head;
        let mut last = NOBODY;
        let mut at = head;
        let mut gone = 0;
        while at != NOBODY {
            let next = self.get(at).next;
            if ends(self.get(at)) {
                if last == NOBODY {
                    first = next;
                } else {
                    self.get_mut(last).next = next;
                }
                gone += 1;
                self.unlist(at);
            } else {
                last = at;
            }
            at = next;
        }
        (first, gone)
    }

    /// An entry has left its list without news.
    fn unlist(&mut self, id: WaiterId) {
        let waiter = self.get_mut(id);
        waiter.listed = false;
        waiter.news = News::None;
        if !waiter.queued {
            self.release(id);
        }
    }

    /// An entry has left its list, and this is to be told.
    pub fn tell(&mut self, id: WaiterId, news: News) {
        self.get_mut(id).listed = false;
        self.queue(id, news);
    }

    /// An entry stays in its list, and this is to be told.
    pub fn tell_and_keep(&mut self, id: WaiterId, news: News) {
        self.queue(id, news);
    }

    fn queue(&mut self, id: WaiterId, news: News) {
        let waiter = self.get_mut(id);
        waiter.news = news;
        if waiter.queued {
            return;
        }
        waiter.queued = true;
        waiter.next_wake = NOBODY;
        let validator = usize::from(waiter.validator);
        let (_, last) = self.wakes[validator];
        if last == NOBODY {
            self.wakes[validator].0 = id;
        } else {
            self.get_mut(last).next_wake = id;
        }
        self.wakes[validator].1 = id;
    }

    /// True while somebody behind this validator is to be told something.
    pub fn has_wakes(&self, validator: u16) -> bool {
        self.wakes[usize::from(validator)].0 != NOBODY
    }

    /// The next one to be told something; entries without news are dropped on the way.
    pub fn next_wake(&mut self, validator: u16) -> Option<Waiter> {
        loop {
            let (first, _) = self.wakes[usize::from(validator)];
            if first == NOBODY {
                return None;
            }
            let waiter = *self.get(first);
            let list = &mut self.wakes[usize::from(validator)];
            list.0 = waiter.next_wake;
            if list.0 == NOBODY {
                list.1 = NOBODY;
            }
            if waiter.listed {
                let kept = self.get_mut(first);
                kept.queued = false;
                kept.news = News::None;
            } else {
                self.release(first);
            }
            if waiter.news != News::None {
                return Some(waiter);
            }
        }
    }

    /// A transaction was decided: its whole list is to be handed on, in later steps.
    pub fn ripen(&mut self, head: WaiterId, txid: TxId, reason: WakeReason) {
        if head == NOBODY {
            return;
        }
        assert!(self.ripe_len < self.ripe.len(), "more ripe lists than waiters");
        let place = (self.ripe_first + self.ripe_len) % self.ripe.len();
        self.ripe[place] = Ripe { head, txid, reason };
        self.ripe_len += 1;
    }

    /// Takes entries that `ends` says so out of the ripe lists of `txid`.
    pub fn retain_ripe(&mut self, txid: &TxId, ends: impl Fn(&Waiter) -> bool) {
        let size = self.ripe.len();
        let mut kept = 0;
        for i in 0..self.ripe_len {
            let mut ripe = self.ripe[(self.ripe_first + i) % size];
            if ripe.txid == *txid {
                ripe.head = self.retain(ripe.head, &ends).0;
            }
            if ripe.head != NOBODY {
                self.ripe[(self.ripe_first + kept) % size] = ripe;
                kept += 1;
            }
        }
        self.ripe_len = kept;
    }

    /// Takes the next waiter off the oldest ripe list.
    pub fn next_ripe(&mut self) -> Option<(WaiterId, Ripe)> {
        if self.ripe_len == 0 {
            return None;
        }
        let ripe = self.ripe[self.ripe_first];
        let next = self.get(ripe.head).next;
        if next == NOBODY {
            self.ripe_first = (self.ripe_first + 1) % self.ripe.len();
            self.ripe_len -= 1;
        } else {
            self.ripe[self.ripe_first].head = next;
        }
        Some((ripe.head, ripe))
    }

    /// True while ripe lists are left.
    pub fn has_ripe(&self) -> bool {
        self.ripe_len > 0
    }

    /// Puts an entry that has left its list in front of another one.
    pub fn relist(&mut self, id: WaiterId, head: WaiterId) {
        let waiter = self.get_mut(id);
        waiter.next = head;
        waiter.listed = true;
    }

    /// Every list that is not a coin's or a transaction's: entries in it, for [`crate::Shard::check`].
    pub fn unanchored(&self) -> impl Iterator<Item = WaiterId> + '_ {
        let ripe = (0..self.ripe_len)
            .map(|i| self.ripe[(self.ripe_first + i) % self.ripe.len()].head)
            .flat_map(|head| self.list(head));
        let woken = self.wakes.iter().flat_map(|&(first, _)| {
            std::iter::successors((first != NOBODY).then_some(first), |&id| {
                Some(self.get(id).next_wake).filter(|&n| n != NOBODY)
            })
        });
        ripe.chain(woken.filter(|&id| !self.get(id).listed))
    }

    /// The entries of the list at `head`.
    pub fn list(&self, head: WaiterId) -> impl Iterator<Item = WaiterId> + '_ {
        std::iter::successors((head != NOBODY).then_some(head), |&id| {
            Some(self.get(id).next).filter(|&n| n != NOBODY)
        })
    }
}

/// Blocks and waiters are numbered alike; lists are anchored in slab fields.
const _: () = assert!(size_of::<WaiterId>() == size_of::<Handle>());
