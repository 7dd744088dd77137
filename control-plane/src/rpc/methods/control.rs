//! The node itself. Source of the shapes: SV Node `rpc/misc.cpp`, `rpc/net.cpp`, `rpc/server.cpp`, seen from 1.0.13.

use super::super::args::Args;
use super::super::error::{RpcError, code};
use super::super::json::Json;
use super::super::state::Rpc;
use super::super::table::{self, Answer, Later};
use super::blocks::difficulty;
use consensus::params::Network;
use consensus::rules::ConsolidationPolicy;
use consensus::script::Limits;
use std::sync::Arc;

/// The version of the P2P protocol whose rules this node knows.
const PROTOCOL_VERSION: u32 = 70_016;

/// This program's version as a number: two digits each for minor, patch and build behind the major one.
fn version() -> u32 {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + part(env!("CARGO_PKG_VERSION_MINOR")) * 10_000
        + part(env!("CARGO_PKG_VERSION_PATCH")) * 100
}

pub(in super::super) fn getinfo(rpc: &Rpc, _: &Args) -> Answer {
    let service = &rpc.service;
    let (tip, limits) = (service.chain.tip(), Limits::policy());
    let most = i64::MAX;
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("version").int(version());
            w.key("protocolversion").int(PROTOCOL_VERSION);
            w.key("initcomplete").bool(true);
            w.key("blocks").int(tip.height);
            w.key("timeoffset").int(0);
            w.key("connections").int(0);
            w.key("proxy").plain("");
            w.key("difficulty").double(difficulty(tip.header.n_bits));
            w.key("testnet").bool(service.params.network == Network::Test);
            w.key("stn").bool(service.params.network == Network::Stn);
            w.key("paytxfee").amount(0);
            w.key("relayfee").amount(0);
            w.key("errors").plain("");
            w.key("maxblocksize").int(most);
            w.key("maxminedblocksize").int(most);
            w.key("maxstackmemoryusagepolicy").int(limits.stack_memory_bytes);
            let consensus = Limits::consensus(0).stack_memory_bytes;
            w.key("maxstackmemoryusageconsensus").int(consensus);
        });
    }))
}

pub(in super::super) fn getnetworkinfo(_: &Rpc, _: &Args) -> Answer {
    let consolidation = ConsolidationPolicy::default();
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("version").int(version());
            let name = format!("/MetaNode:{}/", env!("CARGO_PKG_VERSION"));
            w.key("subversion").plain(name);
            w.key("protocolversion").int(PROTOCOL_VERSION);
            // This node has no peers yet: it offers no services and relays nothing.
            w.key("localservices").plain("0000000000000000");
            w.key("localrelay").bool(false);
            w.key("timeoffset").int(0);
            w.key("txnpropagationfreq").int(0);
            w.key("txnpropagationqlen").int(0);
            w.key("networkactive").bool(false);
            w.key("connections").int(0);
            w.key("addresscount").int(0);
            w.key("streampolicies").plain("");
            w.key("networks").array(|_| {});
            w.key("relayfee").amount(0);
            w.key("minconsolidationfactor").int(consolidation.factor);
            w.key("maxconsolidationinputscriptsize").int(consolidation.unlocking_bytes_max);
            w.key("minconfconsolidationinput").int(consolidation.confirmations_min);
            w.key("minconsolidationinputmaturity").int(consolidation.confirmations_min);
            w.key("acceptnonstdconsolidationinput").bool(consolidation.non_standard_inputs);
            w.key("localaddresses").array(|_| {});
            w.key("warnings").plain("");
        });
    }))
}

pub(in super::super) fn help(_: &Rpc, args: &Args) -> Answer {
    let text = match args.value(0) {
        None => table::list(),
        Some(_) => table::method(args.text(0)).map_or_else(
            || {
                let shown: String = args.text(0).chars().take(80).collect();
                format!("help: unknown command: {shown}")
            },
            table::Method::help,
        ),
    };
    Ok(Json::of(|w| w.text(&text)))
}

pub(in super::super) fn stop(rpc: &Rpc, _: &Args) -> Answer {
    rpc.service.stop.request();
    Ok(Json::of(|w| w.text("MetaNode stopping")))
}

pub(in super::super) fn takecheckpoint(rpc: Arc<Rpc>, _: Args) -> Later {
    Box::pin(async move {
        let Some(journals) = rpc.service.journals.clone() else {
            return Err(RpcError::misc(
                "this node keeps no journals (--durability none), so there is nothing to take a checkpoint in; start it with \
                 --durability epoch",
            ));
        };
        let taken = journals.checkpoint().await;
        let epoch = taken.map_err(|error| RpcError::new(code::DATABASE, error.to_string()))?;
        Ok(Json::of(|w| w.int(epoch)))
    })
}

pub(in super::super) fn uptime(rpc: &Rpc, _: &Args) -> Answer {
    Ok(Json::of(|w| w.int(rpc.started.elapsed().as_secs())))
}

pub(in super::super) fn setmocktime(rpc: &Rpc, args: &Args) -> Answer {
    let network = rpc.service.params.network;
    if network != Network::Regtest {
        return Err(RpcError::misc(format!(
            "setmocktime is for regression testing (regtest) only; this is {network}"
        )));
    }
    let time_s = args.long(0)?.unwrap_or(0);
    let time_s = u64::try_from(time_s)
        .ok()
        .filter(|time_s| u32::try_from(*time_s).is_ok())
        .ok_or_else(|| RpcError::parameter("Timestamp must be between 0 and 4294967295"))?;
    rpc.service.clock.set_mock_s((time_s > 0).then_some(time_s));
    Ok(Json::of(Json::null))
}
