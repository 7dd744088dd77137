//! The documentation page `docs/interfaces/rpc.md`, written from the table of methods.
//!
//! Out: the page as text. A test holds the file to it; `METANODE_BLESS=1 cargo test -p control-plane rpc::docs` writes it.

use super::envelope::ID_BYTES_MAX;
use super::error::code;
use super::json::DEPTH_MAX;
use super::state::{BLOCKING_CALLS_MAX, Bounds, LONG_POLLS_MAX};
use super::table::{Access, METHODS};

const INTRODUCTION: &str = "\
# JSON-RPC

The node answers JSON-RPC on `rpc.listen` (127.0.0.1:8545) as bitcoind and SV Node do: the same methods, parameters by place or by
name, shapes, error codes and texts, so that their tools work unchanged. Shapes were read from SV Node 1.0.13, and a test
compares both nodes call by call. This page is written by a test from the table of methods.

## Over HTTP

One call a `POST /`, or a batch: a JSON array of calls, answered in order as an array. `id` comes back as it was written; `jsonrpc` is
ignored; an answer has `result`, `error` and `id` in every version of the protocol.

| status | when |
| --- | --- |
| 200 | the call succeeded; every batch |
| 400 | the call is none (-32600) |
| 401 | credentials are missing or wrong; wrong ones wait a quarter of a second |
| 404 | no such method (-32601), no such path |
| 405 | not a POST |
| 500 | the call failed, or is no JSON (-32700) |
| 503 | too much is being done already (-32005); `Retry-After` says when to come again |

## Who may call

At every start the node draws a password and writes `__cookie__:PASSWORD` to `.cookie` in its data directory, readable by its
owner only and removed at exit. With `rpc.user` and `rpc.password_file` set, that user counts instead. Clients send user and
password as HTTP basic authentication. Submitting transactions (`sendrawtransaction`, `sendrawtransactions`) needs no credentials: it
changes nothing that the rules do not allow. Everything else needs them. The listener is on the loopback address by default; the
password is not encrypted on the way, so put a TLS proxy in front of any other address.

While a starting node rebuilds its coins from the blocks, every call but `help`, `stop` and `uptime` fails with -28.

";

const DIFFERENCES: &str = "
## Where it differs from SV Node

* There is no wallet and there are no peers yet: their methods are absent, and so are the wallet's fields of `getinfo`. `generate`
  pays to a coin that anybody may spend.
* `getblocktemplate` and `getminingcandidate` answer without peers. Mode `proposal` is absent, and not among the capabilities.
* `getrawtransaction`, `gettxoutproof` and `getmerkleproof2` find every transaction of the active chain, without a setting.
* `getmerkleproof2` proves the coinbase of a block of one transaction; SV Node 1.0.13 says that it is not in the block. Its named
  parameters mean what they say.
* `sendrawtransaction` also takes the extended format. `dontcheckfee` changes nothing. Policy settings of single transactions
  (`config`, the second parameter of `sendrawtransactions`) are refused.
* `null` in the place of an optional parameter means that it was left out, for every method.
* Where the next block is of another era than the tip (Genesis, Chronicle, also on the way back) the pool is emptied, as the reference
  empties its own.
* Order of `getrawmempool` is of no meaning. `usage` and the bounds of `getmempoolinfo` are this node's own.
* Opcodes that came with Chronicle carry the names of SV Node 1.2.2 in `asm`.
* `takecheckpoint` and the texts of `help` are this node's own.
";

/// The page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "## Bounds\n\n| what | bound |\n| --- | --- |\n";
    let bounds = [
        ("nesting of a request", DEPTH_MAX),
        ("calls of a batch, unless `rpc.batch_max` says otherwise", Bounds::default().batch_max),
        (
            "requests that are worked on, unless `rpc.calls_max` says otherwise; others wait",
            Bounds::default().calls_max,
        ),
        ("bytes of an `id`", ID_BYTES_MAX),
        ("calls that read files or compute, at a time; others wait", BLOCKING_CALLS_MAX),
        ("long polls at a time", LONG_POLLS_MAX),
    ];
    for (what, bound) in bounds {
        page += &format!("| {what} | {bound} |\n");
    }
    page += "\nConnections, headers, bodies and deadlines have the bounds of the listener.\n\n";
    page += "## Error codes\n\n| code | meaning |\n| --- | --- |\n";
    for (number, meaning) in code::ALL {
        page += &format!("| {number} | {meaning} |\n");
    }
    page += "\n## Methods\n";
    let mut category = "";
    for method in METHODS {
        if method.category != category {
            category = method.category;
            page += &format!("\n### {category}\n");
        }
        let open = if method.access == Access::Open { " Needs no credentials." } else { "" };
        page += &format!("\n#### `{}`\n\n{}{open}\n\n", method.usage(), method.about);
        for param in method.params {
            let must = if param.required { "required" } else { "optional" };
            page +=
                &format!("* `{}` ({}, {must}): {}\n", param.name, param.kind.name(), param.about);
        }
        if !method.params.is_empty() {
            page.push('\n');
        }
        page += &format!("Gives {}.\n", method.gives);
    }
    page + DIFFERENCES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/interfaces/rpc.md");
        let page = page();
        if std::env::var_os("METANODE_BLESS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            file == page,
            "docs/interfaces/rpc.md is not what the table says; `METANODE_BLESS=1 cargo test -p control-plane rpc::docs` writes it"
        );
    }
}
