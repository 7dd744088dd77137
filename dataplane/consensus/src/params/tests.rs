//! Parameters: recomputed genesis blocks, the flag word at every boundary, and what an operator may change.

use super::*;
use crate::pow;

#[test]
fn every_genesis_block_is_rebuilt_to_its_known_hash_and_meets_its_target() {
    for network in Network::ALL {
        let p = ChainParams::of(network);
        let coinbase = genesis::coinbase(network);
        assert_eq!(coinbase.txid().0, p.genesis_header.merkle_root.0, "{network}");
        assert_eq!(p.genesis_header.hash(), p.genesis_hash, "{network}");
        assert!(pow::hash_meets_bits(&p.genesis_hash, p.genesis_header.n_bits, p.pow_limit()));
        assert_eq!(pow::compact_from_target(p.pow_limit()), p.pow_limit_bits, "{network}");
        assert_eq!(p.genesis_block().len(), 81 + coinbase.to_bytes().len());
    }
}

#[test]
fn names_are_read_in_both_spellings() {
    for network in Network::ALL {
        assert_eq!(network.name().parse(), Ok(network));
        assert_eq!(network.chain_name().parse(), Ok(network));
    }
    assert!("mainnnet".parse::<Network>().unwrap_err().to_string().contains("mainnet (main)"));
}

#[test]
fn the_flag_word_of_mainnet_changes_where_the_chain_did() {
    let p = ChainParams::of(Network::Main);
    let table = [
        (0, 173_805, 0),
        (173_806, 363_724, 0x1),
        (363_725, 388_380, 0x5),
        (388_381, 419_327, 0x205),
        (419_328, 478_558, 0x605),
        (478_559, 504_031, 0x10607),
        (504_032, 620_537, 0x1460f),
        (620_538, 943_815, 0x5462f),
        (943_816, u32::MAX, 0x15462f),
    ];
    for (first, last, flags) in table {
        assert_eq!(p.flags_for_block(first), flags, "at {first}");
        assert_eq!(p.flags_for_block(last), flags, "at {last}");
    }
}

#[test]
fn each_input_adds_the_era_of_its_coin() {
    let p = ChainParams::of(Network::Main);
    assert_eq!(p.flags_for_input(620_537, 1), 0);
    assert_eq!(p.flags_for_input(620_538, 1), 0x20);
    assert_eq!(p.flags_for_input(700_000, 620_538), 0x80020);
    assert_eq!(p.flags_for_input(943_816, 943_816), 0x280020);
}

#[test]
fn the_flag_word_of_the_mempool_is_stricter() {
    let p = ChainParams::of(Network::Main);
    assert_eq!(p.flags_for_mempool(620_537), 0x147df);
    assert_eq!(p.flags_for_mempool(620_538), 0x547df);
    assert_eq!(p.flags_for_mempool(943_816), 0x1547df);
}

#[test]
fn regtest_moves_its_upgrades_and_mainnet_does_not() {
    let p = ChainParams::builder(Network::Regtest)
        .genesis_height(100)
        .chronicle_height(200)
        .build()
        .unwrap();
    assert_eq!(
        [99, 100, 199, 200].map(|h| p.era(h)),
        [Era::PreGenesis, Era::PostGenesis, Era::PostGenesis, Era::PostChronicle]
    );
    let fixed = ChainParams::builder(Network::Main).genesis_height(100).build();
    assert_eq!(fixed, Err(ParamsError::FixedHeights { network: Network::Main }));
    let backwards = ChainParams::builder(Network::Regtest).chronicle_height(5).build();
    assert!(matches!(backwards, Err(ParamsError::ChronicleBeforeGenesis { .. })));
    let magic = ChainParams::builder(Network::Main).p2p_magic([1, 2, 3, 4]).build().unwrap();
    assert_eq!(magic.p2p_magic, [1, 2, 3, 4]);
}

#[test]
fn the_subsidy_halves_and_ends() {
    let p = ChainParams::of(Network::Main);
    assert_eq!(p.subsidy_sat(0), 5_000_000_000);
    assert_eq!(p.subsidy_sat(209_999), 5_000_000_000);
    assert_eq!(p.subsidy_sat(210_000), 2_500_000_000);
    assert_eq!(p.subsidy_sat(210_000 * 33), 0);
    assert_eq!(p.subsidy_sat(u32::MAX), 0);
    assert_eq!(ChainParams::of(Network::Regtest).subsidy_sat(150), 2_500_000_000);
    let total: u64 = (0..34).map(|era| p.subsidy_sat(era * 210_000) * 210_000).sum();
    assert_eq!(total, 2_099_999_997_690_000);
}

#[test]
fn versions_rise_with_the_upgrades() {
    let p = ChainParams::of(Network::Main);
    assert_eq!(p.version_floor(227_930), i32::MIN);
    assert_eq!(p.version_floor(227_931), 2);
    assert_eq!(p.version_floor(363_725), 3);
    assert_eq!(p.version_floor(388_381), 4);
}

#[test]
fn bip30_is_looked_up_except_where_history_answers() {
    let p = ChainParams::of(Network::Main);
    let first: BlockHash =
        "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec".parse().unwrap();
    assert!(!p.needs_bip30(91_842, &first, false));
    assert!(p.needs_bip30(91_842, &BlockHash::ZERO, false));
    assert!(p.needs_bip30(227_931, &BlockHash::ZERO, true));
    assert!(!p.needs_bip30(227_932, &BlockHash::ZERO, true));
    assert!(p.needs_bip30(227_932, &BlockHash::ZERO, false));
    let regtest = ChainParams::of(Network::Regtest);
    assert!(regtest.needs_bip30(200_000_000, &BlockHash::ZERO, true));
}
