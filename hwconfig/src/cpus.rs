//! Sets of processors, and the two ways the kernel writes them: lists (`0-3,8`) and masks (`f,00000001`).
//!
//! In: text from `/sys` and `/proc`, or from an operator. Out: a [`CpuSet`], and the text again. Nothing here trusts the
//! text: a processor number above [`CPU_MAX`] is refused before anything is allocated for it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::str::FromStr;

/// Highest processor number that is believed. Linux itself stops at 8191 (`CONFIG_NR_CPUS`).
pub const CPU_MAX: u32 = 8_191;

/// A set of processors, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<u32>);

/// Text that is not a set of processors.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuSetError {
    /// Neither a number nor a range.
    #[error("`{got}` is not a processor list; expected numbers and ranges like `0-3,8`")]
    List {
        /// The piece that was not understood.
        got: String,
    },
    /// Not groups of hexadecimal digits.
    #[error("`{got}` is not a processor mask; expected hexadecimal groups like `ff,00000000`")]
    Mask {
        /// The piece that was not understood.
        got: String,
    },
    /// A number no kernel has.
    #[error("processor {got} is above {CPU_MAX}, the highest a Linux kernel can have")]
    TooHigh {
        /// The number.
        got: u64,
    },
}

impl CpuSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a list: `0-3,8`, `1-10:1/2` (the first of every two), or nothing.
    pub fn parse_list(text: &str) -> Result<Self, CpuSetError> {
        let mut set = Self::new();
        let text = text.trim();
        if text.is_empty() {
            return Ok(set);
        }
        for piece in text.split(',') {
            let piece = piece.trim();
            let refuse = || CpuSetError::List { got: piece.to_owned() };
            let (range, stride) = match piece.split_once(':') {
                Some((range, stride)) => {
                    let (used, group) = stride.split_once('/').ok_or_else(refuse)?;
                    (range, (number(used, refuse)?, number(group, refuse)?))
                }
                None => (piece, (1, 1)),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first, refuse)?, number(last, refuse)?),
                None => (number(range, refuse)?, number(range, refuse)?),
            };
            if first > last || stride.0 == 0 || stride.0 > stride.1 {
                return Err(refuse());
            }
            if last > u64::from(CPU_MAX) {
                return Err(CpuSetError::TooHigh { got: last });
            }
            set.0.extend(
                (first..=last)
                    .filter(|cpu| (cpu - first) % stride.1 < stride.0)
                    .map(|cpu| cpu as u32),
            );
        }
        Ok(set)
    }

    /// Reads a mask: groups of up to eight hexadecimal digits, most significant first.
    pub fn parse_mask(text: &str) -> Result<Self, CpuSetError> {
        let text = text.trim();
        let refuse = |got: &str| CpuSetError::Mask { got: got.to_owned() };
        let mut set = Self::new();
        for (group, digits) in text.split(',').rev().enumerate() {
            let digits = if group == 0 { digits.trim_start_matches("0x") } else { digits };
            let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digits.is_empty() || digits.len() > 8 || !hexadecimal {
                return Err(refuse(digits));
            }
            let bits = u32::from_str_radix(digits, 16).map_err(|_| refuse(digits))?;
            for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
                let cpu = group as u64 * 32 + bit;
                if cpu > u64::from(CPU_MAX) {
                    return Err(CpuSetError::TooHigh { got: cpu });
                }
                set.0.insert(cpu as u32);
            }
        }
        Ok(set)
    }

    /// The mask the kernel reads: groups of eight digits, without leading zeros.
    pub fn mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let mut words = vec![0u32; groups as usize];
        for cpu in &self.0 {
            words[(cpu / 32) as usize] |= 1 << (cpu % 32);
        }
        let mut text = String::new();
        for (index, word) in words.iter().rev().enumerate() {
            let _ = if index == 0 { write!(text, "{word:x}") } else { write!(text, ",{word:08x}") };
        }
        text
    }

    /// Processors in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Adds `cpu`.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// What is in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// What is in either.
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// What is in this one only.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

fn number(text: &str, refuse: impl Fn() -> CpuSetError) -> Result<u64, CpuSetError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse());
    }
    text.parse().map_err(|_| refuse())
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        Self::parse_list(text)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let pieces: Vec<String> = ranges
            .iter()
            .map(
                |(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}-{last}") }
                },
            )
            .collect();
        f.write_str(&pieces.join(","))
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse_list(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_kernel_writes_is_read() {
        let list = |text| CpuSet::parse_list(text).map(|set| set.iter().collect::<Vec<_>>());
        assert_eq!(list("0-2,5\n"), Ok(vec![0, 1, 2, 5]));
        assert_eq!(list("\n"), Ok(vec![]));
        assert_eq!(list("1-6:1/2"), Ok(vec![1, 3, 5]));
        let mask = CpuSet::parse_mask("f,00000001\n").map(|set| set.to_string());
        assert_eq!(mask, Ok("0,32-35".to_owned()));
        assert_eq!(CpuSet::parse_mask("0").map(|set| set.len()), Ok(0));
    }

    #[test]
    fn absurd_text_is_refused_and_costs_nothing() {
        for text in ["-", "a", "3-1", "0-99999999999999999999", "1,,2", "0-4:3/2", "0-3:0/0", "+1"]
        {
            assert!(CpuSet::parse_list(text).is_err(), "{text}");
        }
        assert_eq!(
            CpuSet::parse_list("0-4000000000"),
            Err(CpuSetError::TooHigh { got: 4_000_000_000 })
        );
        for text in ["", "g", "123456789", "1,", ",1", "+1", " "] {
            assert!(CpuSet::parse_mask(text).is_err(), "{text:?}");
        }
        assert!(CpuSet::parse_mask(&"ffffffff,".repeat(300)).is_err());
    }

    fn sets() -> impl Strategy<Value = CpuSet> {
        proptest::collection::btree_set(0..=CPU_MAX, 0..200).prop_map(CpuSet)
    }

    proptest! {
        #[test]
        fn a_list_and_a_mask_read_back_as_the_set_they_were_written_from(set in sets()) {
            prop_assert_eq!(CpuSet::parse_list(&set.to_string()), Ok(set.clone()));
            prop_assert_eq!(CpuSet::parse_mask(&set.mask()), Ok(set.clone()));
            prop_assert_eq!(set.or(&set.minus(&set)), set);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "[0-9a-fx,:/+ -]{0,40}|.{0,40}") {
            if let Ok(set) = CpuSet::parse_list(&text) {
                prop_assert_eq!(CpuSet::parse_list(&set.to_string()), Ok(set));
            }
            if let Ok(set) = CpuSet::parse_mask(&text) {
                prop_assert_eq!(CpuSet::parse_mask(&set.mask()), Ok(set));
            }
        }
    }
}
