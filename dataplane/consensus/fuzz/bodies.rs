//! The properties that fuzzing tries to break, apart from the fuzzer.
//!
//! In come any bytes; a broken property is a panic. The fuzz targets call these functions, and so does the test
//! `fuzz_corpora`, with every input that was ever worth keeping.

use consensus::block::{BlockCursor, BlockStep, BlockView};
use consensus::hash::TxId;
use consensus::proof::{Bump, TscProof};
use consensus::script::{
    Budget, Deferred, Flags, Limits, Machine, Outcome, Progress, Scratch, SigBatch, SigCheck,
    TxContext, read_lax_der, verify_script,
};
use consensus::sighash::SighashCache;
use consensus::teranode::{SubtreeMeta, SubtreeView};
use consensus::tx::{self, OutPoint, Tx, TxIdHasher, TxIn, TxLayout, TxOut, TxParser, TxView};

/// A parsed transaction is the same in pieces, hashes the same in pieces, and is written as it was read.
pub fn tx(data: &[u8]) {
    let mut layout = TxLayout::new();
    let at_once = tx::parse_prefix(data, &mut layout, tx::Limits::CONSENSUS);

    let mut parser = TxParser::new(tx::Limits::CONSENSUS);
    let mut pieces = TxLayout::new();
    let in_pieces = loop {
        match parser.advance(data, &mut pieces, 1) {
            Ok(tx::Progress::More) => {}
            Ok(_) => break Ok(parser.used_bytes()),
            Err(error) => break Err(error),
        }
    };
    match (at_once, in_pieces) {
        (Ok(view), Ok(used)) => {
            assert_eq!(view.bytes().len(), used);
            read_everything(&view);
            let txid = view.txid();
            let mut hasher = TxIdHasher::new(view);
            let hashed = loop {
                if let Some(hashed) = hasher.advance(7) {
                    break hashed;
                }
            };
            assert_eq!(hashed, txid);
            let owned = view.to_owned_tx();
            assert_eq!(owned.txid(), txid);
            let mut raw = Vec::new();
            view.write_raw(&mut raw);
            assert_eq!(raw, owned.to_bytes());
            assert_eq!(raw.len() as u64, view.raw_size());
            if !view.is_extended() {
                assert_eq!(raw, view.bytes());
            }
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        (a, b) => panic!("at once {:?}, in pieces {b:?}", a.map(|view| view.bytes().len())),
    }
}

fn read_everything(view: &TxView<'_>) {
    let scripts: usize = view.inputs().map(|input| input.unlocking_script.len()).sum();
    let locks: usize = view.outputs().map(|output| output.locking_script.len()).sum();
    assert!(scripts + locks <= view.bytes().len());
    assert!(view.outputs_bytes().len() >= 9 * view.output_count());
}

/// A block walked in pieces has the transactions of the block parsed at once.
pub fn block(data: &[u8]) {
    let whole = BlockView::parse(data);
    let mut cursor = BlockCursor::default();
    let mut layout = TxLayout::new();
    let mut ids: Vec<TxId> = Vec::new();
    let walked = loop {
        match cursor.advance(data, &mut layout, 1) {
            Ok(BlockStep::More) => {}
            Ok(BlockStep::Tx(range)) => ids.push(TxView::new(&data[range], &layout).txid()),
            Ok(BlockStep::LayoutFull) => panic!("a growing layout is full"),
            Ok(BlockStep::End) => break Ok(cursor.used_bytes()),
            Err(error) => break Err(error),
        }
    };
    if let Ok(view) = whole {
        assert_eq!(walked, Ok(data.len()));
        assert_eq!(view.txids().expect("the block was parsed"), ids);
    } else if let Ok(used) = walked {
        assert!(used < data.len(), "only bytes behind the block can be wrong with it");
    }
}

/// What parses is written as it was read.
pub fn containers(data: &[u8]) {
    if let Ok(subtree) = SubtreeView::parse(data) {
        let mut out = Vec::new();
        subtree.to_owned_subtree().write(&mut out);
        assert_eq!(out, data);
        let _ = subtree.computed_root();
    }
    if let Ok(meta) = SubtreeMeta::parse(data) {
        let mut out = Vec::new();
        meta.write(&mut out);
        assert_eq!(SubtreeMeta::parse(&out).ok().as_ref(), Some(&meta));
    }
    if let Ok(bump) = Bump::parse(data) {
        let mut out = Vec::new();
        bump.write(&mut out);
        assert_eq!(Bump::parse(&out).ok().as_ref(), Some(&bump));
        let _ = bump.root(&TxId([1; 32]));
    }
    if let Ok(proof) = TscProof::parse(data) {
        let mut out = Vec::new();
        proof.write(&mut out);
        assert_eq!(TscProof::parse(&out).ok().as_ref(), Some(&proof));
        let _ = proof.root();
    }
    let mut layout = TxLayout::new();
    if let Ok(block) = consensus::teranode::TeranodeBlockView::parse(data, &mut layout) {
        assert!(block.subtree_roots().len() <= data.len() / 32);
        let _ = block.coinbase().txid();
    }
}

/// Two scripts with flags and a version.
struct Case {
    unlocking: Vec<u8>,
    locking: Vec<u8>,
    flags: Flags,
    tx: Vec<u8>,
}

impl Case {
    /// `flags u32 | version i8 | unlocking length u16 | unlocking script | locking script`
    fn read(data: &[u8]) -> Option<Self> {
        let (flags, rest) = data.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let unlocking = rest.get(..usize::from(u16::from_le_bytes(*len)).min(rest.len()))?.to_vec();
        let locking = rest[unlocking.len()..].to_vec();
        let input = TxIn {
            prev: OutPoint { txid: TxId([3; 32]), vout: 1 },
            unlocking_script: unlocking.clone(),
            sequence: 0xffff_fffe,
            coin: None,
        };
        let output = TxOut { value_sat: 1_000, locking_script: vec![0x51] };
        let tx = Tx {
            version: i32::from(*version as i8),
            inputs: vec![input.clone(), input],
            outputs: vec![output],
            lock_time: 500_000,
        };
        Some(Self {
            unlocking,
            locking,
            flags: Flags(u32::from_le_bytes(*flags)),
            tx: tx.to_bytes(),
        })
    }

    fn with<T>(&self, body: impl FnOnce(TxContext<'_>) -> T) -> T {
        let mut layout = TxLayout::new();
        let view = tx::parse(&self.tx, &mut layout).expect("a transaction we built");
        body(TxContext::new(view, 1, 5_000))
    }
}

const BUDGET: Budget =
    Budget { operations: 200_000, hashed_bytes: 4_000_000, bignum_cost: 4_000_000 };

fn limits() -> Limits {
    Limits { stack_memory_bytes: 1_000_000, ..Limits::consensus(0) }
}

/// Says that a signature is good when key, R, S and digest have an even sum: as unpredictable to a script as the
/// curve, but half of all checks are good, and no key has to be known.
fn is_good(pubkey: &[u8], compact: &[u8; 64], digest: &[u8; 32]) -> bool {
    pubkey.iter().chain(compact).chain(digest).fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 2
        == 0
}

struct Parity;

impl SigCheck for Parity {
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool {
        read_lax_der(sig_der)
            .filter(|sig| !sig.is_hopeless())
            .is_some_and(|sig| is_good(pubkey, &sig.to_compact_low_s(), digest))
    }
}

/// Collecting, deciding and repeating where needed comes to what checking at once comes to.
pub fn script_deferred(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    case.with(|tx| {
        let mut scratch = Scratch::new();
        let mut sighash = SighashCache::new();
        let mut run = |checker: &mut dyn SigCheck, scratch: &mut Scratch| {
            let (unlocking, locking) = (&case.unlocking, &case.locking);
            let mut budget = BUDGET;
            let mut checker = checker;
            let limits = limits();
            verify_script(
                unlocking,
                locking,
                case.flags,
                &tx,
                &mut sighash,
                &mut checker,
                &limits,
                &mut budget,
                scratch,
            )
        };
        let at_once = run(&mut Parity, &mut scratch);
        let mut batch = SigBatch::with_capacity(64);
        let mut deferred = Deferred::new(&mut batch, 0);
        let assumed_outcome = run(&mut deferred, &mut scratch);
        let assumed = deferred.assumed();
        let all_good = batch
            .checks()
            .iter()
            .all(|check| is_good(check.pubkey(), &check.signature, &check.digest));
        let decided = match assumed_outcome {
            Outcome::Accepted if all_good => Outcome::Accepted,
            Outcome::Rejected(error) if assumed == 0 => Outcome::Rejected(error),
            Outcome::Accepted | Outcome::Rejected(_) => run(&mut Parity, &mut scratch),
            // Under assumptions another branch may have met a bound; nothing is said.
            Outcome::BudgetExceeded(_) | Outcome::BatchFull => return,
        };
        if at_once.is_verdict() {
            assert_eq!(decided, at_once);
        }
    });
}

/// Slices of one to a few opcodes end as the whole run does, and cost the same.
pub fn script_slices(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let slice = u64::from(data[0] % 5) + 1;
    case.with(|tx| {
        let mut scratch = Scratch::new();
        let limits = limits();
        let mut whole = BUDGET;
        let outcome = verify_script(
            &case.unlocking,
            &case.locking,
            case.flags,
            &tx,
            &mut SighashCache::new(),
            &mut Parity,
            &limits,
            &mut whole,
            &mut scratch,
        );
        let mut sliced = BUDGET;
        let mut sighash = SighashCache::new();
        let (unlocking, locking) = (case.unlocking.as_slice(), case.locking.as_slice());
        let mut machine = Machine::new(&mut scratch, unlocking, locking, case.flags, tx, &limits);
        let mut progress = machine.step(slice, &mut sighash, &mut Parity, &mut sliced);
        while progress == Progress::More {
            let mut machine =
                Machine::resume(&mut scratch, unlocking, locking, case.flags, tx, &limits);
            progress = machine.step(slice, &mut sighash, &mut Parity, &mut sliced);
        }
        assert_eq!(progress, Progress::Done(outcome));
        assert_eq!(sliced, whole);
    });
}
