//! `hw show --state`: every path and netlink attribute that a stage can write, with its value.
//!
//! In: a host. Out: lines `key <tab> value`, sorted; two texts that are equal mean that nothing changed that a stage could have
//! changed. Rings, channels, coalescing and offloads are listed whole, so that a side effect of one on another shows too.

use crate::host::Host;
use crate::persist;
use crate::stages;
use std::collections::BTreeMap;

/// Key and value of everything that can be written here.
pub fn state(host: &Host) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for stage in &stages::STAGES {
        for key in (stage.keys)(host) {
            let value = host.read(&key);
            all.insert(key, value);
        }
    }
    for device in host.network_devices() {
        for group in crate::ethtool::GROUPS {
            for (name, value) in host.netlink(&device, group) {
                all.insert(format!("netlink:{device}/{group}/{name}"), Some(value));
            }
        }
    }
    all.insert(persist::KEY.to_owned(), host.read(persist::KEY));
    all
}

/// The same as text.
pub fn text(host: &Host) -> String {
    let mut text = String::new();
    for (key, value) in state(host) {
        let value = value.map_or_else(|| "-".to_owned(), |value| value.replace('\n', "\\n"));
        text += &[key.as_str(), "\t", &value, "\n"].concat();
    }
    text
}
