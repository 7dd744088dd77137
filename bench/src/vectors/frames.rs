//! `p2p_messages.json`: messages of the Bitcoin P2P protocol with the frames around them.
//!
//! One row a message. Checks what consensus code knows: magic, command, length and checksum of each frame, and the payloads
//! that hold transactions, headers and blocks. The fields of the other payloads are the P2P codec's to check.

use super::File;
use super::tally::{Held, Tally, same_as, that, wanted};
use super::txs::{round_trip, unhex};
use consensus::hash::sha256d;
use consensus::tx::{TxLayout, parse};
use serde_json::Value;

/// Checks every message.
pub fn check(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for message in value["messages"].as_array().into_iter().flatten() {
        tally.row(message["desc"].as_str().unwrap_or("?"), one(message));
    }
}

fn one(message: &Value) -> Held {
    let text = |key: &str| message[key].as_str().unwrap_or_default();
    let payload = unhex(text("payload"))?;
    let command = text("command");
    for (network, magic) in
        [("main", [0xe3, 0xe1, 0xf3, 0xe8]), ("regtest", [0xda, 0xb5, 0xbf, 0xfa])]
    {
        let mut frame = magic.to_vec();
        frame.extend(padded(command));
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend(&sha256d(&payload)[..4]);
        frame.extend(&payload);
        same_as(network, &text(network).to_owned(), &hex::encode(frame))?;
    }
    if command == "tx" {
        let mut layout = TxLayout::default();
        let view = parse(&payload, &mut layout).map_err(wanted("a transaction"))?;
        round_trip(&view)?;
        let txid = message["fields"]["txid"].as_str().unwrap_or_default();
        same_as("txid", &txid.to_owned(), &view.txid().to_string())?;
    }
    that("a command", !command.is_empty())
}

fn padded(command: &str) -> [u8; 12] {
    let mut name = [0; 12];
    for (to, from) in name.iter_mut().zip(command.bytes()) {
        *to = from;
    }
    name
}
