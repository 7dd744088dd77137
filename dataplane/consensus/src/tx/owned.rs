//! Transactions that own their parts: for builders, tests and everything that is not hot.

use super::{EXTENDED_MARKER, OutPoint, ParseError, TxLayout, TxView, parse};
use crate::hash::TxId;
use crate::wire::{write_compact_size, write_var_bytes};

/// The coin an input spends, as the extended format carries it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coin {
    /// Value in satoshi.
    pub value_sat: u64,
    /// The locking script.
    pub locking_script: Vec<u8>,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxIn {
    /// The output it spends.
    pub prev: OutPoint,
    /// The script that satisfies the locking script.
    pub unlocking_script: Vec<u8>,
    /// The sequence number.
    pub sequence: u32,
    /// The spent coin, where it is known.
    pub coin: Option<Coin>,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxOut {
    /// Value in satoshi.
    pub value_sat: i64,
    /// The locking script.
    pub locking_script: Vec<u8>,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tx {
    /// The version.
    pub version: i32,
    /// The inputs.
    pub inputs: Vec<TxIn>,
    /// The outputs.
    pub outputs: Vec<TxOut>,
    /// The lock time.
    pub lock_time: u32,
}

impl TxOut {
    /// Appends the wire form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value_sat.to_le_bytes());
        write_var_bytes(out, &self.locking_script);
    }
}

impl TxIn {
    /// Appends the wire form, without the coin.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prev.to_bytes());
        write_var_bytes(out, &self.unlocking_script);
        out.extend_from_slice(&self.sequence.to_le_bytes());
    }
}

impl Tx {
    /// Parses bytes that are exactly one transaction, in either format.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut layout = TxLayout::new();
        Ok(Self::from_view(parse(bytes, &mut layout)?))
    }

    /// Copies a view.
    pub fn from_view(view: TxView<'_>) -> Self {
        let inputs = view.inputs().map(|input| TxIn {
            prev: input.prev,
            unlocking_script: input.unlocking_script.to_vec(),
            sequence: input.sequence,
            coin: input.extended.map(|coin| Coin {
                value_sat: coin.value_sat,
                locking_script: coin.locking_script.to_vec(),
            }),
        });
        let outputs = view.outputs().map(|output| TxOut {
            value_sat: output.value_sat,
            locking_script: output.locking_script.to_vec(),
        });
        Self {
            version: view.version(),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            lock_time: view.lock_time(),
        }
    }

    /// Appends the raw form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        write_compact_size(out, self.inputs.len() as u64);
        for input in &self.inputs {
            input.write(out);
        }
        self.write_tail(out);
    }

    /// The raw form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The extended form; `None` if the coin of an input is not known.
    pub fn to_extended_bytes(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&EXTENDED_MARKER);
        write_compact_size(&mut out, self.inputs.len() as u64);
        for input in &self.inputs {
            let coin = input.coin.as_ref()?;
            input.write(&mut out);
            out.extend_from_slice(&coin.value_sat.to_le_bytes());
            write_var_bytes(&mut out, &coin.locking_script);
        }
        self.write_tail(&mut out);
        Some(out)
    }

    /// The transaction id.
    pub fn txid(&self) -> TxId {
        TxId::of(&self.to_bytes())
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        write_compact_size(out, self.outputs.len() as u64);
        for output in &self.outputs {
            output.write(out);
        }
        out.extend_from_slice(&self.lock_time.to_le_bytes());
    }
}
