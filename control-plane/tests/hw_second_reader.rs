//! What we read of the cards of this machine, held against what the crate `ethtool` reads.
//!
//! In: every network device there is. Out: the same channels, rings, coalescing and offloads from both, and nothing from either where
//! the driver has none.

use ethtool::{
    EthtoolAttr, EthtoolChannelAttr as Channel, EthtoolCoalesceAttr as Coalesce, EthtoolError,
    EthtoolFeatureAttr as Feature, EthtoolFeatureBit, EthtoolHandle, EthtoolMessage,
    EthtoolRingAttr as Ring,
};
use futures_util::{Stream, StreamExt};
use hwconfig::host::Host;
use std::collections::BTreeMap;

/// The bit with the number 0, which version 0.3 of the crate drops.
const FIRST_FEATURE: &str = "tx-scatter-gather";

type Words = BTreeMap<String, String>;

async fn collect<M: Into<EthtoolMessage>>(
    answers: impl Stream<Item = Result<M, EthtoolError>>,
) -> Vec<EthtoolAttr> {
    let messages: Vec<_> = answers.filter_map(|answer| async { answer.ok() }).collect().await;
    messages.into_iter().flat_map(|message| message.into().nlas).collect()
}

/// A number that both know; `None` for what only the crate reads.
fn number(attribute: &EthtoolAttr) -> Option<(&'static str, u32)> {
    Some(match *attribute {
        EthtoolAttr::Channel(Channel::RxMax(n)) => ("rx-max", n),
        EthtoolAttr::Channel(Channel::TxMax(n)) => ("tx-max", n),
        EthtoolAttr::Channel(Channel::OtherMax(n)) => ("other-max", n),
        EthtoolAttr::Channel(Channel::CombinedMax(n)) => ("combined-max", n),
        EthtoolAttr::Channel(Channel::RxCount(n)) => ("rx", n),
        EthtoolAttr::Channel(Channel::TxCount(n)) => ("tx", n),
        EthtoolAttr::Channel(Channel::OtherCount(n)) => ("other", n),
        EthtoolAttr::Channel(Channel::CombinedCount(n)) => ("combined", n),
        EthtoolAttr::Ring(Ring::RxMax(n)) => ("rx-max", n),
        EthtoolAttr::Ring(Ring::TxMax(n)) => ("tx-max", n),
        EthtoolAttr::Ring(Ring::Rx(n)) => ("rx", n),
        EthtoolAttr::Ring(Ring::Tx(n)) => ("tx", n),
        EthtoolAttr::Coalesce(Coalesce::RxUsecs(n)) => ("rx-usecs", n),
        EthtoolAttr::Coalesce(Coalesce::RxMaxFrames(n)) => ("rx-frames", n),
        EthtoolAttr::Coalesce(Coalesce::TxUsecs(n)) => ("tx-usecs", n),
        EthtoolAttr::Coalesce(Coalesce::TxMaxFrames(n)) => ("tx-frames", n),
        EthtoolAttr::Coalesce(Coalesce::UseAdaptiveRx(on)) => ("adaptive-rx", on.into()),
        EthtoolAttr::Coalesce(Coalesce::UseAdaptiveTx(on)) => ("adaptive-tx", on.into()),
        _ => return None,
    })
}

fn numbers(attributes: &[EthtoolAttr]) -> Words {
    attributes
        .iter()
        .filter_map(number)
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .collect()
}

fn features(attributes: &[EthtoolAttr]) -> Words {
    let names = |bits: &[EthtoolFeatureBit]| -> Vec<String> {
        bits.iter().filter(|bit| bit.value).map(|bit| bit.name.clone()).collect()
    };
    let (mut changeable, mut active) = (Vec::new(), Vec::new());
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Feature(Feature::Hw(bits)) => changeable = names(bits),
            EthtoolAttr::Feature(Feature::Active(bits)) => active = names(bits),
            _ => {}
        }
    }
    let mut words = Words::new();
    for name in active.iter().chain(&changeable) {
        let fixed = if changeable.contains(name) { "" } else { " fixed" };
        let value = if active.contains(name) { "on" } else { "off" };
        words.insert(name.clone(), format!("{value}{fixed}"));
    }
    words
}

/// All four groups of a device, as the crate reads them.
async fn read(handle: &mut EthtoolHandle, device: &str) -> [(&'static str, Words); 4] {
    let name = Some(device);
    macro_rules! group {
        ($group:ident) => {
            match handle.$group().get(name).execute().await {
                Ok(answers) => {
                    collect(answers.map(|answer| answer.map(|message| message.payload))).await
                }
                Err(_) => Vec::new(),
            }
        };
    }
    [
        ("channels", numbers(&group!(channel))),
        ("rings", numbers(&group!(ring))),
        ("coalesce", numbers(&group!(coalesce))),
        ("features", features(&group!(feature))),
    ]
}

#[test]
fn the_crate_reads_of_every_card_of_this_machine_what_we_read() {
    let host = Host::real();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("tokio");
    let compared = runtime.block_on(async {
        let (connection, mut handle, _) = ethtool::new_connection().expect("a netlink socket");
        tokio::spawn(connection);
        let mut compared = 0;
        for device in host.network_devices() {
            for (group, theirs) in read(&mut handle, &device).await {
                let mut ours = host.netlink(&device, group);
                ours.retain(|name, _| theirs.contains_key(name) || name != FIRST_FEATURE);
                assert_eq!(ours, theirs, "{device} {group}");
                compared += theirs.len();
            }
        }
        compared
    });
    assert!(compared >= 20, "only {compared} values: the loopback device alone has more");
    eprintln!("{compared} values of {} cards", host.network_devices().len());
}
