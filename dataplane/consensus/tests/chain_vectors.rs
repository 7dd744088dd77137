//! The vectors of everything but scripts, walked whole, their rows counted.
//!
//! What SV Node 1.2.2 answered about merkle trees, difficulty, sigops and parameters is committed in `vectors/` and always runs.
//! Real blocks, headers, addresses and Teranode's files are read from `shared/vectors` beside the checkout, or from
//! `METANODE_VECTORS`; without them the tests say SKIPPED, and fail under `CI=true`.

use consensus::address::{self, Destination, Wif};
use consensus::block::{BlockStep, BlockView};
use consensus::hash::{BlockHash, TxId, sha256};
use consensus::header::{Header, MEDIAN_TIME_BLOCKS, median_time_past};
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Era, Network};
use consensus::pow::{self, ChainPoint, U256};
use consensus::proof::{TscProof, TscSubject, TscTarget};
use consensus::rules::{self, BlockChecker, CoinFacts, InputTally, TxLimits};
use consensus::teranode::{COINBASE_PLACEHOLDER, Subtree, SubtreeDataCursor, SubtreeNode};
use consensus::teranode::{SubtreeView, TeranodeBlockView};
use consensus::tx::{self, ParseErrorKind, TxLayout, TxView};
use consensus::wire::Reader;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn committed(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/derived-svnode-1.2.2").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The folder of all vectors; `None` means skip, and says so.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("METANODE_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if root.is_dir() {
        return Some(root);
    }
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!ci, "no test vectors at {}; set METANODE_VECTORS", root.display());
    eprintln!("SKIPPED: no test vectors at {}; set METANODE_VECTORS to run them", root.display());
    None
}

fn bytes_of(root: &Path, name: &str) -> Vec<u8> {
    let path = root.join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json_of(root: &Path, name: &str) -> Value {
    serde_json::from_slice(&bytes_of(root, name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn bits(value: &Value) -> u32 {
    u32::from_str_radix(text(value), 16).expect("compact bits in hex")
}

fn u256(hex: &str) -> U256 {
    U256::from_str_radix(hex, 16).expect("a number in hex")
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON row"))
}

#[test]
fn merkle_roots_and_mutations_are_sv_nodes() {
    let file: Value = serde_json::from_str(&committed("merkle_cases.json")).unwrap();
    let cases = rows(&file["cases"]);
    for case in cases {
        let leaves: Vec<[u8; 32]> =
            rows(&case[1]).iter().map(|i| sha256(format!("leaf{i}").as_bytes())).collect();
        let got = merkle_root(&leaves);
        assert_eq!(hex::encode(got.root.0), text(&case[2]), "{}", case[0]);
        assert_eq!(Some(got.is_mutated), case[3].as_bool(), "{}", case[0]);
    }
    assert_eq!(cases.len(), 37);
}

/// A chain in memory, for the algorithms of difficulty.
#[derive(Default)]
struct MemoryChain {
    first_height: u32,
    points: Vec<ChainPoint>,
}

impl MemoryChain {
    fn push(&mut self, time_s: u32, n_bits: u32) {
        let before = self.points.last().map_or(U256::ZERO, |p| p.chain_work);
        self.points.push(ChainPoint {
            time_s,
            n_bits,
            chain_work: before + pow::block_work(n_bits),
        });
    }

    fn tip(&self) -> u32 {
        self.first_height + self.points.len() as u32 - 1
    }
}

impl pow::Chain for MemoryChain {
    fn point(&self, height: u32) -> Option<ChainPoint> {
        self.points.get(height.checked_sub(self.first_height)? as usize).copied()
    }
}

#[test]
fn difficulty_is_sv_nodes_in_every_algorithm() {
    let file: Value = serde_json::from_str(&committed("difficulty_cases.json")).unwrap();
    let main = ChainParams::of(Network::Main);

    let retargets = rows(&file["retarget_2016"]["cases"]);
    for case in retargets {
        let span_s = number(&case[2]) - number(&case[1]);
        assert_eq!(pow::retarget_2016(bits(&case[0]), span_s, &main), bits(&case[3]), "{case}");
    }
    assert_eq!(retargets.len(), 64);

    let compacts = rows(&file["compact"]["cases"]);
    for case in compacts {
        let got = pow::expand_compact(bits(&case[0]));
        assert_eq!(got.value, u256(text(&case[1])), "{case}");
        assert_eq!(Some(got.is_negative), case[2].as_bool(), "{case}");
        assert_eq!(Some(got.is_overflow), case[3].as_bool(), "{case}");
    }
    assert_eq!(compacts.len(), 29);

    // SV Node's own unit tests build these chains: DAA from the first block, and the emergency adjustment.
    let mut daa_from_start = main.clone();
    daa_from_start.daa_height = 0;
    assert_eq!(synthetic(&file["daa_synthetic"], &daa_from_start), 12);
    assert_eq!(synthetic(&file["eda_synthetic"], &main), 6);
}

/// Walks one synthetic chain; gives the number of steps.
fn synthetic(case: &Value, params: &ChainParams) -> usize {
    let start = &case["start"];
    let mut time_s = number(&start["genesis_time"]);
    let mut chain = MemoryChain::default();
    chain.push(time_s as u32, bits(&start["bits"]));
    for _ in 0..number(&start["blocks_at_600s_after_genesis"]) {
        time_s += 600;
        chain.push(time_s as u32, bits(&start["bits"]));
    }
    let mut required = if start["first_required"].is_null() {
        bits(&start["bits"])
    } else {
        bits(&start["first_required"])
    };
    let mut steps = 0;
    for step in rows(&case["steps"]).iter().filter(|step| step.is_array()) {
        for _ in 0..number(&step[1]) {
            time_s += number(&step[0]);
            chain.push(time_s as u32, required);
            required =
                pow::required_bits(params, chain.tip(), time_s as u32 + 600, &chain).unwrap();
        }
        assert_eq!(required, bits(&step[2]), "{step}");
        steps += 1;
    }
    steps
}

#[test]
fn the_daa_agrees_with_real_testnet_blocks() {
    let params = ChainParams::of(Network::Test);
    let text_of = committed("daa_testnet_real.jsonl");
    let mut count = 0;
    for row in lines(&text_of).skip(1) {
        let height = number(&row[0]) as u32;
        let heights = [147, 146, 145, 3, 2, 1].map(|back| height - back);
        let points: Vec<(u32, ChainPoint)> = heights
            .into_iter()
            .zip(rows(&row[1]))
            .map(|(h, p)| {
                let time_s = number(&p[0]) as u32;
                (h, ChainPoint { time_s, n_bits: 0, chain_work: u256(text(&p[1])) })
            })
            .collect();
        let chain = |h: u32| points.iter().find(|(at, _)| *at == h).map(|(_, p)| *p);
        // Not late: the rows are of blocks to which the twenty-minute rule did not apply.
        let time_s = points[5].1.time_s;
        let got = pow::required_bits(&params, height - 1, time_s, &chain).unwrap();
        assert_eq!(got, bits(&row[2]), "height {height}");
        count += 1;
    }
    assert_eq!(count, 247);
}

#[test]
fn sigops_are_counted_as_sv_node_counts_them() {
    let mut count = 0;
    for row in lines(&committed("sigop_count_cases.jsonl")) {
        let script = hex::decode(text(&row[0])).unwrap();
        let era = match number(&row[1]) {
            1 => Era::PreGenesis,
            2 => Era::PostGenesis,
            _ => Era::PostChronicle,
        };
        let got = rules::count_sigops(&script, era, number(&row[2]) == 1);
        let want = if number(&row[4]) == 1 { None } else { Some(number(&row[3]) as u64) };
        assert_eq!(got.ok(), want, "{row}");
        count += 1;
    }
    assert_eq!(count, 2000);
}

#[test]
fn parameters_and_genesis_blocks_of_six_networks() {
    let file: Value = serde_json::from_str(&committed("chainparams.json")).unwrap();
    let file = file.as_object().unwrap();
    for (name, want) in file {
        let p = ChainParams::of(name.parse().unwrap());
        let genesis = &want["genesis"];
        assert_eq!(hex::encode(p.genesis_block()), text(&genesis["rawBlockHex"]), "{name}");
        assert_eq!(hex::encode(p.genesis_header.to_bytes()), text(&genesis["headerHex"]), "{name}");
        assert_eq!(p.genesis_hash.to_string(), text(&genesis["hash"]), "{name}");
        assert_eq!(hex::encode(p.p2p_magic), text(&want["netMagic"]), "{name}");
        assert_eq!(p.disk_magic.map(hex::encode).as_deref(), want["diskMagic"].as_str(), "{name}");
        assert_eq!(i64::from(p.p2p_port), number(&want["port"]), "{name}");
        assert_eq!(p.rpc_port.map(i64::from), want["rpcPort"].as_i64(), "{name}");
        assert_eq!(p.pow_limit(), u256(text(&want["powLimit"])), "{name}");
        assert_eq!(i64::from(p.halving_blocks), number(&want["halving"]), "{name}");
        assert_eq!(Some(p.allows_min_difficulty), want["minDifficultyBlocks"].as_bool(), "{name}");
        let no_retarget = p.retarget == consensus::params::Retarget::None;
        assert_eq!(Some(no_retarget), want["noRetarget"].as_bool(), "{name}");
        for (key, height) in [
            ("bip34Height", p.bip34_height),
            ("bip65Height", p.bip65_height),
            ("bip66Height", p.bip66_height),
            ("csvHeight", p.csv_height),
            ("p2shHeight", p.p2sh_height),
            ("uahfHeight", p.uahf_height),
            ("daaHeight", p.daa_height),
            ("genesisHeight", p.genesis_height),
            ("chronicleHeight", p.chronicle_height),
        ] {
            // Null: SV Node leaves it uninitialised; missing: Teranode has no such height.
            if let Some(want) = want.get(key).and_then(Value::as_i64) {
                assert_eq!(i64::from(height), want, "{name} {key}");
            }
        }
        let hash = |key: &str| {
            let hash: Option<BlockHash> = want[key].as_str().map(|h| h.parse().unwrap());
            hash.filter(|h| *h != BlockHash::ZERO)
        };
        assert_eq!(p.bip34_hash, hash("bip34Hash"), "{name}");
        assert_eq!(p.assume_valid, hash("assumeValid"), "{name}");
        if let Some(work) = want["minimumChainWork"].as_str() {
            assert_eq!(hex::encode(p.minimum_chain_work), work, "{name}");
        }
        let prefixes = &want["prefixes"];
        assert_eq!(i64::from(p.prefixes.p2pkh), number(&prefixes["pubkeyAddr"]), "{name}");
        assert_eq!(i64::from(p.prefixes.p2sh), number(&prefixes["scriptAddr"]), "{name}");
        assert_eq!(i64::from(p.prefixes.wif), number(&prefixes["wif"]), "{name}");
        assert_eq!(hex::encode_upper(p.prefixes.xpub), text(&prefixes["xpub"]), "{name}");
        assert_eq!(hex::encode_upper(p.prefixes.xprv), text(&prefixes["xprv"]), "{name}");
        for key in ["checkpoints", "extraCheckpointsGoChaincfg"] {
            for checkpoint in want[key].as_array().into_iter().flatten() {
                let height = number(&checkpoint[0]) as u32;
                let hash = p.checkpoint_at(height).map(|h| h.to_string());
                assert_eq!(hash.as_deref(), checkpoint[1].as_str(), "{name} {height}");
            }
        }
    }
    assert_eq!(file.len(), 6);
}

/// Checks raw headers that follow each other: links, work, times, and required bits where enough blocks are before them.
/// Gives the numbers of headers and of required bits that were compared.
fn check_headers(bytes: &[u8], first_height: u32, params: &ChainParams) -> (usize, usize) {
    let headers: Vec<Header> = bytes.as_chunks::<80>().0.iter().map(Header::from_bytes).collect();
    let mut chain = MemoryChain { first_height, points: Vec::new() };
    let mut compared = 0;
    for (i, header) in headers.iter().enumerate() {
        assert!(pow::hash_meets_bits(&header.hash(), header.n_bits, params.pow_limit()));
        if i > 0 {
            assert_eq!(header.prev, headers[i - 1].hash());
        }
        if i >= MEDIAN_TIME_BLOCKS {
            let times: Vec<u32> =
                headers[i - MEDIAN_TIME_BLOCKS..i].iter().map(|h| h.time_s).collect();
            assert!(header.time_s > median_time_past(&times), "header {i}");
        }
        if i >= 147 {
            let required = pow::required_bits(params, chain.tip(), header.time_s, &chain).unwrap();
            assert_eq!(required, header.n_bits, "height {}", chain.tip() + 1);
            compared += 1;
        }
        chain.push(header.time_s, header.n_bits);
    }
    (headers.len(), compared)
}

#[test]
fn real_headers_meet_every_header_rule() {
    let Some(root) = shared() else { return };
    let teranode = root.join("bsv-blockchain+teranode");
    let main = ChainParams::of(Network::Main);
    let bytes = bytes_of(&teranode, "services/blockchain/886001_888000_headers.bin");
    assert_eq!(check_headers(&bytes, 886_001, &main), (2000, 1853));
    let test = ChainParams::of(Network::Test);
    let bytes = bytes_of(&teranode, "test/testnet_headers_1602530_1602710.bin");
    assert_eq!(check_headers(&bytes, 1_602_530, &test), (181, 34));
}

#[test]
fn tables_of_chain_work_agree_with_every_algorithm_that_made_them() {
    let Some(root) = shared() else { return };
    let folder = root.join("bsv-blockchain+teranode/services/blockchain/work");
    for (name, network, want) in [
        ("testnet.csv", Network::Test, (9999, 9852)),
        ("teratestnet.csv", Network::TeraTestnet, (769, 769)),
    ] {
        let params = ChainParams::of(network);
        let table = String::from_utf8(bytes_of(&folder, name)).unwrap();
        let mut chain = MemoryChain::default();
        let mut compared = 0;
        for row in table.lines().skip(1) {
            let cells: Vec<&str> = row.split(',').collect();
            let height: u32 = cells[0].parse().unwrap();
            let time_s: u32 = cells[1].parse().unwrap();
            let n_bits = u32::from_str_radix(cells[3], 16).unwrap();
            if chain.points.is_empty() {
                chain.first_height = height;
            } else {
                assert_eq!(chain.tip() + 1, height);
                if height == 1 || height >= chain.first_height + 147 || chain.first_height == 0 {
                    let got = pow::required_bits(&params, chain.tip(), time_s, &chain).unwrap();
                    assert_eq!(got, n_bits, "{name} height {height}");
                    compared += 1;
                }
            }
            chain.push(time_s, n_bits);
            let stated = u256(cells[2]);
            let last = chain.points.last_mut().unwrap();
            if height == chain.first_height {
                last.chain_work = stated;
            }
            assert_eq!(last.chain_work, stated, "{name} height {height}");
            if chain.first_height == 0 && height == 0 {
                compared += 1;
            }
        }
        assert_eq!((chain.points.len(), compared), want, "{name}");
    }
}

#[test]
fn base58_is_read_written_and_refused_as_by_sv_node() {
    let Some(root) = shared() else { return };
    let folder = root.join("bitcoin-sv+bitcoin-sv/src/test/data");
    let plain = json_of(&folder, "base58_encode_decode.json");
    for row in rows(&plain) {
        let bytes = hex::decode(text(&row[0])).unwrap();
        assert_eq!(address::encode_base58(&bytes), text(&row[1]));
        assert_eq!(address::decode_base58(text(&row[1])).unwrap(), bytes);
    }
    assert_eq!(rows(&plain).len(), 12);

    let main = ChainParams::of(Network::Main);
    let test = ChainParams::of(Network::Test);
    let valid = json_of(&folder, "base58_keys_valid.json");
    for row in rows(&valid) {
        let (written, payload, about) =
            (text(&row[0]), hex::decode(text(&row[1])).unwrap(), &row[2]);
        let (here, elsewhere) =
            if about["isTestnet"] == true { (&test, &main) } else { (&main, &test) };
        if about["isPrivkey"] == true {
            let key = Wif::parse(written, &here.prefixes).unwrap();
            assert_eq!(key.secret[..], payload);
            assert_eq!(Some(key.is_compressed), about["isCompressed"].as_bool());
            assert_eq!(key.to_text(&here.prefixes), written);
            assert!(Destination::parse(written, &here.prefixes).is_err());
            assert!(Wif::parse(written, &elsewhere.prefixes).is_err());
        } else {
            let destination = Destination::parse(written, &here.prefixes).unwrap();
            let want = match (text(&about["addrType"]), payload.try_into().unwrap()) {
                ("pubkey", hash) => Destination::PubKeyHash(hash),
                (_, hash) => Destination::ScriptHash(hash),
            };
            assert_eq!(destination, want);
            assert_eq!(destination.to_address(here), written);
            assert!(Wif::parse(written, &here.prefixes).is_err());
            assert!(Destination::parse(written, &elsewhere.prefixes).is_err());
        }
    }
    assert_eq!(rows(&valid).len(), 50);

    let invalid = json_of(&folder, "base58_keys_invalid.json");
    for row in rows(&invalid) {
        for params in [&main, &test] {
            assert!(Destination::parse(text(&row[0]), &params.prefixes).is_err(), "{row}");
            assert!(Wif::parse(text(&row[0]), &params.prefixes).is_err(), "{row}");
        }
    }
    assert_eq!(rows(&invalid).len(), 50);
}

#[test]
fn transactions_of_teranodes_tests_have_the_ids_of_their_files() {
    let Some(root) = shared() else { return };
    let folder = root.join("bsv-blockchain+teranode");
    // File, extended, inputs.
    let files = [
        (
            "services/validator/testdata/65cbf31895f6cab997e6c3688b2263808508adc69bcc9054eef5efac6f7895d3.bin",
            false,
            6,
        ),
        (
            "services/validator/testdata/65cbf31895f6cab997e6c3688b2263808508adc69bcc9054eef5efac6f7895d3.bin.extended",
            true,
            6,
        ),
        (
            "services/validator/testdata/9a87105441107db10d3e4cf2146022f754241b3b93c39539e2ce882a398e7d69.bin.extended",
            true,
            3,
        ),
        (
            "services/validator/testdata/f568c66631de7b5842ebae84594cee00f7864132828997d09441fc2a937e9fab.hex",
            true,
            296,
        ),
        (
            "services/validator/testdata/f65ec8dcc934c8118f3c65f86083c2b7c28dad0579becd0cfe87243e576d9ae9",
            true,
            2,
        ),
        (
            "services/legacy/testdata/fb5329b1f8fe83c36da18c97a096f21f02e8200566d232935f3b0c6284e8b2d0.hex",
            true,
            1,
        ),
        (
            "stores/utxo/aerospike/testdata/79a2d893527750d622eff3ef728c304c6e0e75516244ade05a5d9d99804d4b2a.bin",
            true,
            1,
        ),
        (
            "stores/utxo/aerospike/testdata/a3041ffd31b46f9bb6e4cd78c89287b405fb911e893a5dead18372400832abc6.hex",
            true,
            1,
        ),
        (
            "stores/utxo/aerospike/testdata/fbebcc148e40cb6c05e57c6ad63abd49d5e18b013c82f704601bc4ba567dfb90.hex",
            true,
            2,
        ),
    ];
    for (name, extended, inputs) in files {
        let mut bytes = bytes_of(&folder, name);
        if Path::new(name).extension().is_some_and(|end| end == "hex") {
            let digits = String::from_utf8(bytes).unwrap();
            bytes = hex::decode(digits.trim()).unwrap();
        }
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).unwrap_or_else(|e| panic!("{name}: {e}"));
        let id = Path::new(name).file_name().unwrap().to_str().unwrap().split('.').next().unwrap();
        assert_eq!(view.txid().to_string(), id);
        assert_eq!((view.is_extended(), view.input_count()), (extended, inputs), "{name}");
        let checked = rules::check_transaction(view, Era::PostGenesis, &TxLimits::CONSENSUS);
        assert_eq!(checked, Ok(()), "{name}");
        let owned = view.to_owned_tx();
        let again = if extended { owned.to_extended_bytes().unwrap() } else { owned.to_bytes() };
        assert_eq!(again, bytes, "{name}");
    }
}

/// Walks a real block through the checker; gives the number of its transactions.
fn check_block(bytes: &[u8], height: u32, each: &mut dyn FnMut(u64, TxView<'_>)) -> u64 {
    let params = ChainParams::of(Network::Main);
    let block = BlockView::parse(bytes).unwrap();
    let header = block.header();
    assert!(pow::hash_meets_bits(&block.hash(), header.n_bits, params.pow_limit()));
    let time_limit_s = rules::lock_time_limit_s(&params, height, header.time_s, header.time_s);
    let mut checker = BlockChecker::new(&params, height, time_limit_s, 0);
    let mut layout = TxLayout::new();
    let mut txs = block.txs();
    let mut index = 0;
    let mut height_is_right = false;
    while let Some(view) = txs.next_tx(&mut layout).unwrap() {
        if index == 0 {
            height_is_right = checker.has_right_height(view);
            assert_eq!(rules::read_coinbase_height(view.input(0).unlocking_script), Some(height));
        }
        checker.add(view, &view.txid());
        each(index, view);
        index += 1;
    }
    let summary = checker.finish(&header.merkle_root, height_is_right).unwrap();
    assert_eq!(summary.tx_count, block.tx_count());
    assert_eq!(summary.block_bytes, bytes.len() as u64);
    index
}

#[test]
fn real_blocks_pass_every_block_rule_to_the_last_satoshi() {
    let Some(root) = shared() else { return };
    let legacy = root.join("bsv-blockchain+teranode/services/legacy/testdata");
    for (name, height, txs) in [
        ("000000000000000009631dd3dd7357675d8a1f8925be5e7851c68255531ac5fb.bin", 367_495, 901),
        ("00000000000000000488eecd93d6f3767b1ba38668200a6a5349af2e0d4fad3f.bin", 384_188, 1356),
    ] {
        let bytes = bytes_of(&legacy, name);
        let got = check_block(&bytes, height, &mut |_, _| {});
        assert_eq!(got, txs, "{name}");
    }

    let block = bytes_of(&root, "bitcoin-sv+bitcoin-sv/src/bench/data/block413567.raw");
    let coins = bytes_of(&root, "derived-svnode-1.2.2/block413567_prevouts.jsonl");
    let coins = String::from_utf8(coins).unwrap();
    let mut coins = lines(&coins);
    let about = coins.next().unwrap();
    let params = ChainParams::of(Network::Main);
    assert_eq!(i64::from(params.flags_for_block(413_567)), number(&about["flag_bits"]));
    let (mut inputs, mut fees_sat, mut sigops) = (0, 0, 0);
    let mut coinbase_bytes = Vec::new();
    let txs = check_block(&block, 413_567, &mut |index, view| {
        sigops += rules::count_tx_sigops(view, Era::PreGenesis).unwrap();
        if index == 0 {
            coinbase_bytes = view.bytes().to_vec();
            return;
        }
        let mut tally = InputTally::new(413_567);
        for (i, input) in view.inputs().enumerate() {
            let row = coins.next().expect("a coin for every input");
            assert_eq!((number(&row[0]) as u64, number(&row[1]) as usize), (index, i));
            let locking = hex::decode(text(&row[5])).unwrap();
            sigops += rules::count_p2sh_sigops(input.unlocking_script, &locking, Era::PreGenesis)
                .unwrap();
            tally
                .add(&CoinFacts {
                    value_sat: number(&row[4]) as u64,
                    height: number(&row[2]) as u32,
                    is_coinbase: number(&row[3]) == 1,
                    is_confiscation: false,
                })
                .unwrap();
            inputs += 1;
        }
        fees_sat += tally.fee_sat(rules::output_total(view).unwrap()).unwrap();
    });
    assert_eq!((txs, inputs), (1557, 4886));
    assert!(coins.next().is_none());
    assert_eq!(fees_sat as i64, number(&about["total_fees"]));
    assert!(sigops <= rules::block_sigops_max(block.len() as u64));
    let mut layout = TxLayout::new();
    let coinbase = tx::parse(&coinbase_bytes, &mut layout).unwrap();
    assert_eq!(rules::check_coinbase_amount(coinbase, fees_sat, 413_567, &params), Ok(()));
    assert!(rules::check_coinbase_amount(coinbase, fees_sat - 1, 413_567, &params).is_err());
}

#[test]
fn a_teranode_block_its_subtrees_and_their_data_agree() {
    let Some(root) = shared() else { return };
    let folder = root.join("bsv-blockchain+teranode/services/subtreevalidation/testdata/171");
    let bytes =
        bytes_of(&folder, "0000000023ffe4075b18e77ce7342b90a7deeb92e4b3681551253291c3522824.block");
    let mut layout = TxLayout::new();
    let block = TeranodeBlockView::parse(&bytes, &mut layout).unwrap();
    assert_eq!(
        block.header().hash().to_string(),
        "0000000023ffe4075b18e77ce7342b90a7deeb92e4b3681551253291c3522824"
    );
    assert_eq!((block.height(), block.tx_count()), (171, 1024));
    assert_eq!(block.subtree_roots().len(), 32);

    let mut walked = 0;
    let mut first = Vec::new();
    for (i, subtree_root) in block.subtree_roots().enumerate() {
        // Over HTTP a subtree is the bare list of its ids.
        let ids = bytes_of(&folder, &format!("{subtree_root}.subtree"));
        let ids: Vec<TxId> = ids.as_chunks().0.iter().map(|id| TxId(*id)).collect();
        let node = |&txid: &TxId| SubtreeNode { txid, fee_sat: 0, size_bytes: 0 };
        let subtree = Subtree::of(ids.iter().map(node).collect());
        assert_eq!(subtree.root, subtree_root);
        if i == 0 {
            subtree.write(&mut first);
        }
        let data = bytes_of(&folder, &format!("{subtree_root}.subtree_data"));
        let mut cursor = SubtreeDataCursor::new(u32::MAX);
        let mut layout = TxLayout::new();
        let mut expected = ids.iter().filter(|id| **id != COINBASE_PLACEHOLDER);
        while let BlockStep::Tx(range) = cursor.advance(&data, &mut layout, usize::MAX).unwrap() {
            let view = TxView::new(&data[range], &layout);
            assert!(view.is_extended());
            assert_eq!(Some(&view.txid()), expected.next());
            walked += 1;
        }
        assert_eq!(expected.next(), None);
    }
    assert_eq!(walked, 1023);
    let first = SubtreeView::parse(&first).unwrap();
    let coinbase = block.coinbase().txid();
    let computed = block.merkle_root(&coinbase, Some(&first), 32).unwrap();
    assert_eq!(computed.root, block.header().merkle_root);
    assert!(!computed.is_mutated);
}

#[test]
fn the_proofs_inside_a_double_spend_message_are_read_to_its_last_byte() {
    let Some(root) = shared() else { return };
    let file = json_of(&root, "derived-svnode-1.2.2/p2p_messages.json");
    let is_dsdetected = |message: &&Value| message["command"] == "dsdetected";
    let message = rows(&file["messages"]).iter().find(is_dsdetected).unwrap();
    let payload = hex::decode(text(&message["payload"])).unwrap();
    let mut r = Reader::new(&payload);
    assert_eq!(r.u16(), Ok(1));
    let blocks = r.compact_size().unwrap();
    for _ in 0..blocks {
        for _ in 0..r.compact_size().unwrap() {
            Header::read(&mut r).unwrap();
        }
        let at = r.offset();
        let proof = TscProof::read(&mut r).unwrap();
        assert!(matches!(proof.subject, TscSubject::Tx(_)));
        assert!(matches!(proof.target, TscTarget::MerkleRoot(_)));
        assert_eq!(
            proof.txid().to_string(),
            "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
        );
        let mut again = Vec::new();
        proof.write(&mut again);
        assert_eq!(again, payload[at..r.offset()]);
    }
    assert_eq!((blocks, r.finish()), (2, Ok(())));
}

#[test]
fn every_valid_transaction_of_sv_nodes_tests_passes_the_context_free_rules() {
    let Some(root) = shared() else { return };
    let folder = root.join("bitcoin-sv+bitcoin-sv/src/test/data");
    let check = |row: &Value| -> Result<(), String> {
        let bytes = hex::decode(text(&row[1])).unwrap();
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).map_err(|e| match e.kind {
            ParseErrorKind::TrailingBytes { .. } => "trailing bytes".to_owned(),
            kind => kind.to_string(),
        })?;
        let limits = TxLimits::CONSENSUS;
        let checked = if view.is_coinbase() {
            rules::check_coinbase(view, Era::PreGenesis, &limits)
        } else {
            rules::check_transaction(view, Era::PreGenesis, &limits)
        };
        checked.map_err(|reject| reject.reason().to_owned())
    };
    let valid = json_of(&folder, "tx_valid.json");
    let cases = rows(&valid).iter().filter(|row| row[0].is_array());
    let failures: Vec<_> = cases.clone().filter_map(|row| check(row).err()).collect();
    assert_eq!((cases.count(), failures), (93, vec![]));

    // Of the invalid ones these fail here; the others fail in their scripts.
    let invalid = json_of(&folder, "tx_invalid.json");
    let cases = rows(&invalid).iter().filter(|row| row[0].is_array());
    let mut reasons: Vec<_> = cases.clone().filter_map(|row| check(row).err()).collect();
    reasons.sort();
    assert_eq!(cases.count(), 68);
    assert_eq!(
        reasons,
        [
            "bad-cb-length",
            "bad-cb-length",
            "bad-txns-inputs-duplicate",
            "bad-txns-prevout-null",
            "bad-txns-prevout-null",
            "bad-txns-txouttotal-toolarge",
            "bad-txns-vout-empty",
            "bad-txns-vout-negative",
            "bad-txns-vout-toolarge",
            "trailing bytes",
            "trailing bytes",
        ]
    );
}
