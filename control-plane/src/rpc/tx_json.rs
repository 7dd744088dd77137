//! Transactions as JSON objects.
//!
//! In: a parsed transaction and, where it is mined, its block. Out: the fields SV Node shows, in its order. Source: SV Node
//! `core_write.cpp` `TxToJSON`; seen from 1.0.13.

use super::json::Json;
use super::script_text::{asm, write_locking};
use consensus::hash::{BlockHash, TxId};
use consensus::params::{ChainParams, Era};
use consensus::tx::TxView;

/// Where a transaction is mined.
#[derive(Clone, Copy, Debug)]
pub struct MinedIn {
    /// Its block.
    pub hash: BlockHash,
    /// The block's height.
    pub height: u32,
    /// The block's time.
    pub time_s: u32,
    /// Blocks from it to the tip, itself included; `None` if it is not on the active chain.
    pub confirmations: Option<u32>,
}

/// Writes one transaction as an object.
pub fn write_tx(
    w: &mut Json,
    tx: TxView<'_>,
    txid: &TxId,
    era: Era,
    params: &ChainParams,
    mined: Option<&MinedIn>,
) {
    w.object(|w| {
        w.key("txid").plain(txid);
        w.key("hash").plain(txid);
        w.key("version").int(tx.version());
        w.key("size").int(tx.raw_size());
        w.key("locktime").int(tx.lock_time());
        w.key("vin").array(|w| {
            for input in tx.inputs() {
                w.object(|w| {
                    if input.prev.is_null() {
                        w.key("coinbase").hex(input.unlocking_script);
                    } else {
                        w.key("txid").plain(input.prev.txid);
                        w.key("vout").int(input.prev.vout);
                        w.key("scriptSig").object(|w| {
                            w.key("asm").plain(asm(input.unlocking_script, true));
                            w.key("hex").hex(input.unlocking_script);
                        });
                    }
                    w.key("sequence").int(input.sequence);
                });
            }
        });
        w.key("vout").array(|w| {
            for (n, output) in tx.outputs().enumerate() {
                w.object(|w| {
                    w.key("value").money(output.value_sat);
                    w.key("n").int(n);
                    w.key("scriptPubKey")
                        .object(|w| write_locking(w, output.locking_script, era, params));
                });
            }
        });
        if let Some(mined) = mined {
            w.key("blockhash").plain(mined.hash);
            match mined.confirmations {
                Some(confirmations) => {
                    w.key("confirmations").int(confirmations);
                    w.key("time").int(mined.time_s);
                    w.key("blocktime").int(mined.time_s);
                    w.key("blockheight").int(mined.height);
                }
                None => w.key("confirmations").int(0),
            }
        }
        let mut raw = Vec::with_capacity(tx.bytes().len());
        tx.write_raw(&mut raw);
        w.key("hex").hex(&raw);
    });
}

#[cfg(test)]
mod tests {
    use super::super::script_text::guessed_era;
    use super::*;
    use consensus::params::Network;
    use consensus::tx::{TxLayout, parse};

    #[test]
    fn an_odd_transaction_reads_as_the_reference_decodes_it() {
        // Request and answer of `decoderawtransaction` of SV Node 1.0.13, regtest.
        let raw = "ffffffff011111111111111111111111111111111111111111111111111111111111111111000000000b030201410501\
                   02030441510000000006000000000000000000ffffffffffffffff01517b0000000000000001510040075af075070001514e\
                   61bc0000000000016a0a0000000000000001510165cd1d";
        let raw = raw.replace([' ', '\n'], "");
        let expected = format!(
            r#"{{"txid":"04c2b0829295a45b9085a8b544fb7c97080414fcd764dceb5bbaa69cda57962c","hash":"04c2b0829295a45b9085a8b544fb7c97080414fcd764dceb5bbaa69cda57962c","version":-1,"size":121,"locktime":500000001,"vin":[{{"txid":"1111111111111111111111111111111111111111111111111111111111111111","vout":0,"scriptSig":{{"asm":"4260098 0102030441 1","hex":"0302014105010203044151"}},"sequence":0}}],"vout":[{{"value":0.00,"n":0,"scriptPubKey":{{"asm":"","hex":"","type":"nonstandard"}}}},{{"value":-0.00000001,"n":1,"scriptPubKey":{{"asm":"1","hex":"51","type":"nonstandard"}}}},{{"value":0.00000123,"n":2,"scriptPubKey":{{"asm":"1","hex":"51","type":"nonstandard"}}}},{{"value":21000000.00,"n":3,"scriptPubKey":{{"asm":"1","hex":"51","type":"nonstandard"}}}},{{"value":0.12345678,"n":4,"scriptPubKey":{{"asm":"OP_RETURN","hex":"6a","type":"nonstandard"}}}},{{"value":0.0000001,"n":5,"scriptPubKey":{{"asm":"1","hex":"51","type":"nonstandard"}}}}],"hex":"{raw}"}}"#
        );
        let bytes = hex::decode(&raw).unwrap();
        let mut layout = TxLayout::new();
        let tx = parse(&bytes, &mut layout).unwrap();
        let era = guessed_era(tx.outputs().map(|output| output.locking_script));
        let params = ChainParams::of(Network::Regtest);
        let json = Json::of(|w| write_tx(w, tx, &tx.txid(), era, &params, None));
        assert_eq!(String::from_utf8(json.into_bytes()).unwrap(), expected);
    }
}
