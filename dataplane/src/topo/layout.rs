//! Which core does what, for machines of any size.
//!
//! In: how many cores the tiles may have. Out: the number of validators and shards and the core of each tile. Checking
//! signatures costs several times what the owner of a coin spends on the same transaction, so most cores validate; a
//! shard's slice of the UTXO set should stay in its own core's cache, so there are as many shards as shard cores and no
//! more; and on up to four cores there is one shard, because a second one only splits messages.

/// Cores of the tiles of a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Layout {
    /// Cores for tiles, numbered from 0.
    pub cores: usize,
    /// Core of the tiles that face the network.
    pub edge: usize,
    /// Core of `pack`.
    pub pack: usize,
    /// Core of each `shard`.
    pub shard: Vec<usize>,
    /// Core of each `validate`.
    pub validate: Vec<usize>,
}

/// One shard core can feed about this many validating cores.
///
/// From the kernels: a P2PKH input costs a validator about five to six times what its resolve, reserve and settle cost its
/// owner. `bench pipeline` prints the measured shares.
const CORES_PER_SHARD: usize = 5;

impl Layout {
    /// The default layout of a machine with `cores` cores for tiles (zero counts as one).
    pub fn for_cores(cores: usize) -> Self {
        let cores = cores.max(1);
        let (edge, pack, shards, validate): (usize, usize, usize, Vec<usize>) = match cores {
            // Everything on one core; still two kinds of tile, so that nothing is special about a small machine.
            1 => (0, 0, 1, vec![0]),
            // Signatures are the work: a validator on each core, the rest spread beside them.
            2 => (0, 0, 1, vec![0, 1]),
            3 => (0, 0, 1, vec![1, 2]),
            4 => (0, 0, 1, vec![1, 2, 3]),
            // One core for the edges and pack, then shards, then validators.
            5..=8 => (0, 0, 2, (3..cores).collect()),
            // From nine on, pack has a core to itself.
            _ => {
                let shards = cores / CORES_PER_SHARD;
                (0, 1, shards.max(2), (2 + shards.max(2)..cores).collect())
            }
        };
        let first_shard = match cores {
            1 => 0,
            2 | 3 => 1,
            4 => 0,
            _ => pack + 1,
        };
        Self { cores, edge, pack, shard: (first_shard..first_shard + shards).collect(), validate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_uses_every_core_and_no_other() {
        for cores in 1..=256 {
            let l = Layout::for_cores(cores);
            let mut used = l.shard.clone();
            used.extend(&l.validate);
            used.extend([l.edge, l.pack]);
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, (0..cores).collect::<Vec<_>>(), "{l:?}");
        }
    }

    #[test]
    fn there_is_one_shard_up_to_four_cores_and_one_a_shard_core_above() {
        for cores in 1..=4 {
            assert_eq!(Layout::for_cores(cores).shard.len(), 1);
        }
        for cores in 5..=256 {
            let l = Layout::for_cores(cores);
            assert!(
                l.shard.iter().all(|c| !l.validate.contains(c)),
                "a shard core is its own: {l:?}"
            );
            assert!(l.shard.len() * CORES_PER_SHARD <= cores.max(10), "{l:?}");
        }
    }

    #[test]
    fn the_default_layouts_are_these() {
        let sizes = |cores| {
            let l = Layout::for_cores(cores);
            (l.shard.len(), l.validate.len())
        };
        assert_eq!(sizes(2), (1, 2));
        assert_eq!(sizes(4), (1, 3));
        assert_eq!(sizes(8), (2, 5));
        assert_eq!(sizes(16), (3, 11));
        assert_eq!(sizes(64), (12, 50));
    }
}
