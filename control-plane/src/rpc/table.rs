//! The methods, in one table: `help`, the documentation page, the type checks and the dispatch all read it.
//!
//! A row says what a call takes, what it gives, who may call it and which function does it. Anybody who reaches the port may
//! submit transactions: that changes nothing which the rules do not allow, and every other way in takes them too. All
//! else needs the node's user, as bitcoind wants it, and so does everything that changes state.

use super::args::Args;
use super::error::RpcError;
use super::json::Json;
use super::methods::{blocks, control, mempool, mining, proofs, raw, scripts, send};
use super::state::Rpc;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;

/// What a call comes to.
pub type Answer = Result<Json, RpcError>;
/// A call that waits for somebody.
pub type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What kind of JSON a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer.
    Int,
    /// `true` or `false`.
    Bool,
    /// An array.
    Array,
    /// An object.
    Object,
    /// Several of these; the method looks itself.
    Any,
}

/// A parameter.
#[derive(Debug)]
pub struct Param {
    /// Its name in a named call.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// Whether a wrong type is -3 (looked at first) or -1 (stumbled over), as in SV Node.
    pub checked_first: bool,
    /// What it means.
    pub about: &'static str,
}

impl Param {
    const fn first(mut self) -> Self {
        self.checked_first = true;
        self
    }
}

const fn need(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, required: true, checked_first: false, about }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, required: false, checked_first: false, about }
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port.
    Open,
    /// The node's user.
    Credentials,
}

/// How a method is done.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// At once, from memory.
    Now(fn(&Rpc, &Args) -> Answer),
    /// On a thread that may wait for a disk or compute; a few at a time.
    Blocking(fn(&Rpc, &Args) -> Answer),
    /// Asynchronously: it asks another part of the node.
    Later(fn(Arc<Rpc>, Args) -> Later),
    /// As `Later`, but the method reads its parameters itself.
    Raw(fn(Arc<Rpc>, Bytes) -> Later),
}

/// A row of the table.
pub struct Method {
    /// As it is called.
    pub name: &'static str,
    /// The heading `help` puts it under.
    pub category: &'static str,
    /// What it takes, in order.
    pub params: &'static [Param],
    /// What it does.
    pub about: &'static str,
    /// What it answers.
    pub gives: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What does it.
    pub run: Run,
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Method({})", self.name)
    }
}

use Access::{Credentials, Open};
use Kind::{Any, Array, Bool, Int, Object, Text};
use Run::{Blocking, Later as Async, Now, Raw};

const BLOCKCHAIN: &str = "Blockchain";
const CONTROL: &str = "Control";
const GENERATING: &str = "Generating";
const MINING: &str = "Mining";
const NETWORK: &str = "Network";
const RAW: &str = "Rawtransactions";
const UTIL: &str = "Util";

const HASH: Param = need("blockhash", Text, "hash of a block");
const TXID: Param = need("txid", Text, "id of a transaction");
const MAX_TRIES: Param = may("maxtries", Int, "nonces to try in all (default 1000000)");

const BLOCK_VERBOSITY: Param = may(
    "verbosity",
    Any,
    "0 or RAW_BLOCK: hex; 1 or DECODE_HEADER (default): an object with txids; 2 or DECODE_TRANSACTIONS: with whole \
     transactions; 3 or DECODE_HEADER_AND_COINBASE: with the coinbase alone",
);

/// Every method, by category and name.
#[rustfmt::skip]
pub static METHODS: &[Method] = &[
    Method { name: "getbestblockhash", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getbestblockhash),
        params: &[], about: "The hash of the tip.", gives: "a hash" },
    Method { name: "getblock", category: BLOCKCHAIN, access: Credentials, run: Blocking(blocks::getblock),
        params: &[HASH, BLOCK_VERBOSITY], about: "A block.", gives: "hex, or an object with the header's fields and `tx`" },
    Method { name: "getblockbyheight", category: BLOCKCHAIN, access: Credentials, run: Blocking(blocks::getblockbyheight),
        params: &[need("height", Int, "height on the active chain"), BLOCK_VERBOSITY],
        about: "A block of the active chain.", gives: "as `getblock`" },
    Method { name: "getblockchaininfo", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getblockchaininfo),
        params: &[], about: "Where the chain stands.", gives: "an object: chain, blocks, headers, bestblockhash, difficulty, mediantime, chainwork, softforks" },
    Method { name: "getblockcount", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getblockcount),
        params: &[], about: "The height of the tip.", gives: "a number" },
    Method { name: "getblockhash", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getblockhash),
        params: &[need("height", Int, "height on the active chain")], about: "The hash of a block of the active chain.", gives: "a hash" },
    Method { name: "getblockheader", category: BLOCKCHAIN, access: Credentials, run: Blocking(blocks::getblockheader),
        params: &[HASH, may("verbosity", Any, "0, false or RAW_HEADER: hex; 1, true or DECODE_HEADER (default): an object; 2 or \
            DECODE_HEADER_EXTENDED: with the coinbase and its merkle proof")],
        about: "The header of a block.", gives: "hex, or an object" },
    Method { name: "getchaintips", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getchaintips),
        params: &[], about: "The ends of all branches, highest first.", gives: "an array of objects: height, hash, branchlen, status" },
    Method { name: "getdifficulty", category: BLOCKCHAIN, access: Credentials, run: Now(blocks::getdifficulty),
        params: &[], about: "How much harder the tip was to find than the easiest block of the main network.", gives: "a number" },
    Method { name: "getmempoolancestors", category: BLOCKCHAIN, access: Credentials, run: Blocking(mempool::getmempoolancestors),
        params: &[TXID, may("verbose", Bool, "objects instead of ids (default false)")],
        about: "The transactions of the pool that a transaction of the pool spends from, directly or not.", gives: "ids, or objects by id" },
    Method { name: "getmempoolentry", category: BLOCKCHAIN, access: Credentials, run: Blocking(mempool::getmempoolentry),
        params: &[TXID], about: "A transaction of the pool.", gives: "an object: size, fee, modifiedfee, time, height, depends" },
    Method { name: "getmempoolinfo", category: BLOCKCHAIN, access: Credentials, run: Now(mempool::getmempoolinfo),
        params: &[], about: "How full the pool is.", gives: "an object: size, bytes, usage, bounds, mempoolminfee" },
    Method { name: "getmerkleproof2", category: BLOCKCHAIN, access: Credentials, run: Blocking(proofs::getmerkleproof2),
        params: &[need("blockhash", Text, "the block, or an empty string: wherever the transaction is mined"), TXID,
            may("includeFullTx", Bool, "the transaction instead of its id (default false)"),
            may("targetType", Text, "hash (default), header or merkleroot"), may("format", Text, "json")],
        about: "The TSC merkle proof of a mined transaction.", gives: "an object: index, txOrId, targetType, target, nodes" },
    Method { name: "getrawmempool", category: BLOCKCHAIN, access: Credentials, run: Blocking(mempool::getrawmempool),
        params: &[may("verbose", Bool, "objects instead of ids (default false)")],
        about: "The transactions of the pool.", gives: "ids, or objects by id" },
    Method { name: "gettxout", category: BLOCKCHAIN, access: Credentials, run: Async(blocks::gettxout),
        params: &[TXID, need("n", Int, "which output"), may("include_mempool", Bool, "whether the pool counts (default true)")],
        about: "An unspent output.", gives: "an object: bestblock, confirmations, value, scriptPubKey, coinbase, confiscation; null if it is spent or never was" },
    Method { name: "gettxoutproof", category: BLOCKCHAIN, access: Credentials, run: Blocking(proofs::gettxoutproof),
        params: &[need("txids", Array, "ids of transactions of one block"), may("blockhash", Text, "the block; found by the first id if absent")],
        about: "The proof that transactions are in a block: header and partial merkle tree.", gives: "hex" },
    Method { name: "invalidateblock", category: BLOCKCHAIN, access: Credentials, run: Async(blocks::invalidateblock),
        params: &[HASH], about: "Treats a block as if it broke a rule, from now on.", gives: "null" },
    Method { name: "reconsiderblock", category: BLOCKCHAIN, access: Credentials, run: Async(blocks::reconsiderblock),
        params: &[HASH], about: "Takes `invalidateblock` back, for a block, its ancestors and its descendants.", gives: "null" },
    Method { name: "verifytxoutproof", category: BLOCKCHAIN, access: Credentials, run: Now(proofs::verifytxoutproof),
        params: &[need("proof", Text, "what `gettxoutproof` gave")],
        about: "The transactions a proof proves to be in a block of the active chain.", gives: "ids; none if it proves nothing" },

    Method { name: "getinfo", category: CONTROL, access: Credentials, run: Now(control::getinfo),
        params: &[], about: "A bit of everything.", gives: "an object" },
    Method { name: "help", category: CONTROL, access: Credentials, run: Now(control::help),
        params: &[may("command", Text, "a method")], about: "Lists the methods, or explains one.", gives: "text" },
    Method { name: "setmocktime", category: CONTROL, access: Credentials, run: Now(control::setmocktime),
        params: &[need("timestamp", Int, "seconds since 1970; 0 lets the clock run again").first()],
        about: "Stops the node's clock at a time. Regtest only.", gives: "null" },
    Method { name: "stop", category: CONTROL, access: Credentials, run: Now(control::stop),
        params: &[may("detach", Bool, "ignored")], about: "Ends the node.", gives: "text" },
    Method { name: "takecheckpoint", category: CONTROL, access: Credentials, run: Async(control::takecheckpoint),
        params: &[], about: "Takes a checkpoint of all coins on the node's disk, beside its work, and waits until it is there; \
            `metanode utxo export` reads it.", gives: "a number: the epoch at whose end these are the coins" },
    Method { name: "uptime", category: CONTROL, access: Credentials, run: Now(control::uptime),
        params: &[], about: "How long the node has been running, in seconds.", gives: "a number" },

    Method { name: "generate", category: GENERATING, access: Credentials, run: Async(mining::generate),
        params: &[need("nblocks", Int, "how many"), MAX_TRIES],
        about: "Mines blocks at once, whose coinbases anybody may spend. Regtest only.", gives: "an array of hashes" },
    Method { name: "generatetoaddress", category: GENERATING, access: Credentials, run: Async(mining::generatetoaddress),
        params: &[need("nblocks", Int, "how many"), need("address", Text, "what the coinbases pay to"), MAX_TRIES],
        about: "Mines blocks at once. Regtest only.", gives: "an array of hashes" },

    Method { name: "getblocktemplate", category: MINING, access: Credentials, run: Async(mining::getblocktemplate),
        params: &[may("template_request", Object, "`mode` (template), `longpollid`: answer when the template it names is out of date")],
        about: "What a block needs to be mined, with all its transactions (BIP22, BIP23).", gives: "an object" },
    Method { name: "getminingcandidate", category: MINING, access: Credentials, run: Async(mining::getminingcandidate),
        params: &[may("coinbase", Bool, "with the coinbase transaction the node would use (default false)")],
        about: "What a block needs to be mined, with a merkle branch in the place of its transactions.",
        gives: "an object: id, prevhash, coinbase, coinbaseValue, version, nBits, time, height, num_tx, sizeWithoutCoinbase, merkleProof" },
    Method { name: "getmininginfo", category: MINING, access: Credentials, run: Now(mining::getmininginfo),
        params: &[], about: "What concerns miners.", gives: "an object" },
    Method { name: "getnetworkhashps", category: MINING, access: Credentials, run: Now(mining::getnetworkhashps),
        params: &[may("nblocks", Int, "blocks to look at (default 120); 0 or less: since the last change of difficulty"), may("height", Int, "height to look back from (default -1: the tip)")],
        about: "Hashes a second, estimated from the blocks found.", gives: "a number" },
    Method { name: "submitblock", category: MINING, access: Credentials, run: Async(mining::submitblock),
        params: &[need("hexdata", Text, "the block"), may("parameters", Any, "ignored")],
        about: "Hands in a block (BIP22).", gives: "null if it is the new tip, else why not" },
    Method { name: "submitminingsolution", category: MINING, access: Credentials, run: Async(mining::submitminingsolution),
        params: &[need("solution", Object, "`id` and `nonce`, and if they are not the candidate's `coinbase`, `time`, `version`")],
        about: "Hands in what a miner found for a candidate.", gives: "true if it is the new tip, else why not" },

    Method { name: "getnetworkinfo", category: NETWORK, access: Credentials, run: Now(control::getnetworkinfo),
        params: &[], about: "What concerns the network.", gives: "an object" },

    Method { name: "decoderawtransaction", category: RAW, access: Credentials, run: Blocking(raw::decoderawtransaction),
        params: &[need("hexstring", Text, "a transaction").first()], about: "Shows what is in a transaction.", gives: "an object" },
    Method { name: "decodescript", category: RAW, access: Credentials, run: Now(raw::decodescript),
        params: &[need("hexstring", Text, "a script").first()], about: "Shows what is in a locking script.", gives: "an object: asm, hex, type, reqSigs, addresses, p2sh" },
    Method { name: "getrawtransaction", category: RAW, access: Credentials, run: Blocking(raw::getrawtransaction),
        params: &[TXID, may("verbose", Any, "an object instead of hex (default false)")],
        about: "A transaction of the pool or of the active chain.", gives: "hex, or an object" },
    Method { name: "sendrawtransaction", category: RAW, access: Open, run: Raw(send::sendrawtransaction),
        params: &[need("hexstring", Text, "a transaction, raw or extended format").first(), may("allowhighfees", Bool, "take any fee (default false: at most 0.1 coins)").first(),
            may("dontcheckfee", Bool, "ignored: no rule of this node looks at the fee of one transaction only").first()],
        about: "Submits a transaction.", gives: "its id" },
    Method { name: "sendrawtransactions", category: RAW, access: Open, run: Raw(send::sendrawtransactions),
        params: &[need("inputs", Array, "objects: `hex`, and if wanted `allowhighfees`, `dontcheckfee`, `listunconfirmedancestors`").first(),
            may("policy", Object, "must be empty: policy is the node's").first()],
        about: "Submits transactions, parents before children.", gives: "an object of what is not simply accepted: known, evicted, invalid, unconfirmed; empty if nothing" },

    Method { name: "verifyscript", category: UTIL, access: Credentials, run: Async(scripts::verifyscript),
        params: &[need("scripts", Array, "objects: `tx`, `n`, and if wanted `flags`, `reportflags`, `prevblockhash`, `txo` {lock, value, height}"),
            may("stopOnFirstInvalid", Bool, "skip the rest after one that fails (default false)"), may("totalTimeout", Int, "milliseconds for all (default 100)")],
        about: "Runs unlocking scripts against the coins they spend.", gives: "an array of objects: result, description, flags" },
];

/// The method of a name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

impl Method {
    /// The first line of its help.
    pub fn usage(&self) -> String {
        let mut line = self.name.to_owned();
        for param in self.params {
            let name = match param.kind {
                Text => format!("\"{}\"", param.name),
                Array => format!("[{},...]", param.name),
                Object => format!("{{{}}}", param.name),
                _ => param.name.to_owned(),
            };
            line += &if param.required { format!(" {name}") } else { format!(" ( {name} )") };
        }
        line
    }

    /// What `help` says about it.
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage(), self.about);
        if !self.params.is_empty() {
            text += "\nArguments:\n";
            for (i, param) in self.params.iter().enumerate() {
                let kind = param.kind.name();
                let must = if param.required { "required" } else { "optional" };
                text += &format!("{}. {} ({kind}, {must}) {}\n", i + 1, param.name, param.about);
            }
        }
        text + &format!("\nResult:\n{}\n", self.gives)
    }
}

impl Kind {
    /// As help and documentation name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "numeric",
            Self::Bool => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Any => "any",
        }
    }
}

/// What `help` lists: every method under its category.
pub fn list() -> String {
    let mut text = String::new();
    let mut category = "";
    for method in METHODS {
        if method.category != category {
            if !category.is_empty() {
                text.push('\n');
            }
            category = method.category;
            text += &format!("== {category} ==\n");
        }
        text += &method.usage();
        text.push('\n');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_ordered_and_named_once() {
        let keys: Vec<_> = METHODS.iter().map(|method| (method.category, method.name)).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(keys, sorted);
        let names: HashSet<_> = METHODS.iter().map(|method| method.name).collect();
        assert_eq!(names.len(), METHODS.len());
    }

    #[test]
    fn optional_parameters_stand_behind_required_ones_and_names_differ() {
        for method in METHODS {
            let required: Vec<bool> = method.params.iter().map(|param| param.required).collect();
            assert!(required.is_sorted_by(|a, b| a >= b), "{}", method.name);
            let names: HashSet<_> = method.params.iter().map(|param| param.name).collect();
            assert_eq!(names.len(), method.params.len(), "{}", method.name);
        }
    }

    #[test]
    fn only_submitting_transactions_is_open() {
        let open: Vec<_> = METHODS.iter().filter(|m| m.access == Open).map(|m| m.name).collect();
        assert_eq!(open, ["sendrawtransaction", "sendrawtransactions"]);
    }

    #[test]
    fn help_names_every_method_and_parameter() {
        let list = list();
        for method in METHODS {
            assert!(list.lines().any(|line| line == method.usage()), "{}", method.name);
            let help = method.help();
            assert!(method.params.iter().all(|param| help.contains(param.name)), "{help}");
        }
        assert_eq!(method("getblock").unwrap().usage(), "getblock \"blockhash\" ( verbosity )");
    }
}
