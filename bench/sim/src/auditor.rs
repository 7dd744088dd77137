//! The auditor: a shadow of the whole machine in two maps, and what must hold of every verdict and every accepted transaction.
//!
//! It knows every transaction that was made, what is wrong with each, and every coin. Where a race allows several verdicts it
//! allows all of those and no other: of transactions that want one coin any may win, but a double spend must name one that
//! did. What has been accepted is read from the shards' own streams as they are written, before any wire touches them.

use crate::fault::{Checked, ensure};
use crate::script::Lock;
use consensus::hash::TxId;
use consensus::tx::{OutPoint, Tx};
use dataplane::msg::{Accepted, AcceptedKind, SeenState, TxVerdict, VerdictFrag};
use std::collections::BTreeMap;

/// What is wrong with a transaction, whoever else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Its scripts fail.
    Script,
    /// It creates value, or spends a coin twice.
    Value,
    /// Its fee is too low.
    Fee,
    /// Its lock time, a height.
    LockedUntil(u32),
    /// It spends an output that its parent does not have.
    NoSuchOutput,
}

/// A coin that exists, or will if its transaction is accepted.
#[derive(Clone, Debug)]
pub struct CoinInfo {
    pub value_sat: u64,
    pub lock: Lock,
    /// Height and coinbase of a coin that was there from the start, or mined.
    pub base: Option<(u32, bool)>,
}

/// A transaction that was made.
#[derive(Clone, Debug)]
pub struct TxInfo {
    pub tx: Tx,
    pub flaw: Flaw,
    pub fee_sat: u64,
    pub size_bytes: u64,
    /// Home and publish sequence, once accepted.
    pub accepted: Option<(u16, u64)>,
    pub mined: bool,
    /// A copy was told `Accepted`.
    pub told: bool,
    /// Some copy got a verdict that ends children.
    pub refused: bool,
    /// Some copy was turned away at a bound, or as an orphan.
    pub turned_away: bool,
}

/// One copy that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Nothing for bytes that are no transaction.
    pub txid: Option<TxId>,
    /// Claims coins that are not the real ones.
    pub lies: bool,
    /// The pool's height when it was made.
    pub height: u32,
    pub verdict: Option<TxVerdict>,
}

/// What the auditor may ask the shards.
pub trait Truth {
    /// What a transaction's home says of it.
    fn seen(&self, txid: &TxId) -> SeenState;
    /// Its home.
    fn home(&self, txid: &TxId) -> u16;
}

/// See the module.
#[derive(Debug, Default)]
pub struct Auditor {
    pub txs: BTreeMap<TxId, TxInfo>,
    pub coins: BTreeMap<OutPoint, CoinInfo>,
    pub spent_by: BTreeMap<OutPoint, TxId>,
    /// Coins that were ever frozen, and whether they are.
    pub frozen: BTreeMap<OutPoint, bool>,
    pub tokens: Vec<Token>,
    /// Newest publish sequence of each shard.
    pub published: Vec<u64>,
    /// Transactions of each shard by publish sequence, from 1.
    pub by_seq: Vec<Vec<TxId>>,
    pub verdicts: [u64; TxVerdict::ALL.len()],
    pub accepted: u64,
    pub fees_sat: u64,
    /// Value of everything that was there from the start or mined.
    pub made_sat: u64,
    /// Height the pool is judged at.
    pub height: u32,
    /// Nothing may be turned away.
    pub roomy: bool,
    /// Orphans are being aged out.
    pub aging: bool,
    /// Scripts that take long have nobody to run them.
    pub costly_fails: bool,
    pub checks: u64,
    /// Parents that children were refused for; each must have been refused itself by the end.
    blamed: Vec<(TxId, TxId, u32)>,
}

/// Whether children of a transaction that got this verdict cannot hope.
fn ends_children(verdict: TxVerdict) -> bool {
    use TxVerdict as V;
    matches!(
        verdict,
        V::Invalid
            | V::NonFinal
            | V::Policy
            | V::ScriptFailed
            | V::DoubleSpend
            | V::Frozen
            | V::Immature
            | V::ParentRejected
            | V::Locked
    )
}

impl Auditor {
    /// Nothing was made yet.
    pub fn new(shards: u16, height: u32) -> Self {
        let shards = usize::from(shards);
        Self {
            published: vec![0; shards],
            by_seq: vec![Vec::new(); shards],
            height,
            ..Self::default()
        }
    }

    /// A coin that is there without a transaction of ours.
    pub fn add_base(
        &mut self,
        at: OutPoint,
        value_sat: u64,
        lock: Lock,
        height: u32,
        coinbase: bool,
    ) {
        self.made_sat += value_sat;
        let base = Some((height, coinbase));
        let before = self.coins.insert(at, CoinInfo { value_sat, lock, base });
        assert!(before.is_none(), "the coin {at} is made twice");
    }

    /// A coin that was thought to be there is not.
    pub fn drop_base(&mut self, at: &OutPoint) {
        let coin = self.coins.remove(at).expect("it was added before");
        self.made_sat -= coin.value_sat;
    }

    /// A transaction was made. Its inputs carry their real coins; `locks` are those of its outputs.
    pub fn add_tx(&mut self, tx: Tx, flaw: Flaw, locks: &[Lock]) -> TxId {
        let txid = tx.txid();
        if self.txs.contains_key(&txid) {
            return txid;
        }
        for (vout, (output, lock)) in tx.outputs.iter().zip(locks).enumerate() {
            let at = OutPoint { txid, vout: vout as u32 };
            let value_sat = output.value_sat as u64;
            self.coins.insert(at, CoinInfo { value_sat, lock: *lock, base: None });
        }
        let paid: u64 = tx.outputs.iter().map(|o| o.value_sat as u64).sum();
        let coins = tx.inputs.iter().filter_map(|i| i.coin.as_ref());
        let given: u64 = coins.map(|c| c.value_sat).sum();
        let info = TxInfo {
            size_bytes: tx.to_bytes().len() as u64,
            fee_sat: given.saturating_sub(paid),
            tx,
            flaw,
            accepted: None,
            mined: false,
            told: false,
            refused: false,
            turned_away: false,
        };
        self.txs.insert(txid, info);
        txid
    }

    /// A copy is about to be sent; its token.
    pub fn add_token(&mut self, txid: Option<TxId>, lies: bool) -> u64 {
        self.tokens.push(Token { txid, lies, height: self.height, verdict: None });
        self.tokens.len() as u64
    }

    /// Whether the coin belongs to no transaction that the pool could still be waiting for.
    fn is_base(&self, at: &OutPoint) -> bool {
        self.coins.get(at).is_some_and(|c| c.base.is_some())
    }

    /// A shard decided: gapless, known, sound, unspent, paid for, parents first.
    pub fn on_accepted(&mut self, shard: u16, frag: &Accepted<'_>, truth: &impl Truth) -> Checked {
        self.checks += 6;
        let s = usize::from(shard);
        let (txid, seq) = (frag.txid, frag.publish_seq);
        ensure(frag.shard == shard && seq == self.published[s] + 1, || {
            format!("shard {shard} published {seq} after {}", self.published[s])
        })?;
        self.published[s] = seq;
        self.by_seq[s].push(txid);
        ensure(frag.kind == AcceptedKind::Pool, || {
            format!("{txid} was published as {:?}", frag.kind)
        })?;
        ensure(truth.home(&txid) == shard, || format!("{txid} was decided at shard {shard}"))?;
        let Some(info) = self.txs.get_mut(&txid) else {
            return ensure(false, || format!("{txid} was accepted and nobody made it"));
        };
        ensure(TxId::of(frag.tx) == txid, || format!("{txid} was published with other bytes"))?;
        ensure(info.accepted.is_none(), || format!("{txid} was accepted twice"))?;
        info.accepted = Some((shard, seq));
        let sound = match info.flaw {
            Flaw::None => true,
            Flaw::LockedUntil(height) => self.height > height,
            _ => false,
        };
        let (flaw, fee_sat) = (info.flaw, info.fee_sat);
        ensure(sound, || {
            format!("{txid} was accepted in spite of {flaw:?} at height {}", self.height)
        })?;
        ensure(frag.fee_sat == fee_sat, || {
            format!("{txid} pays {fee_sat} but was accepted for {}", frag.fee_sat)
        })?;
        let prevs: Vec<OutPoint> = info.tx.inputs.iter().map(|i| i.prev).collect();
        self.accepted += 1;
        self.fees_sat += fee_sat;
        for prev in prevs {
            self.checks += 2;
            if let Some(other) = self.spent_by.insert(prev, txid) {
                return ensure(false, || format!("{prev} was spent by {other} and by {txid}"));
            }
            if self.is_base(&prev) {
                continue;
            }
            let parent = truth.seen(&prev.txid);
            ensure(parent != SeenState::Unknown, || {
                format!("{txid} was accepted before its parent {}", prev.txid)
            })?;
            let SeenState::Unmined { publish_seq, .. } = parent else { continue };
            let home = truth.home(&prev.txid);
            let named = if home == shard {
                publish_seq < seq
            } else {
                frag.parents.iter().any(|p| p.shard == home && p.seq >= publish_seq)
            };
            ensure(named, || {
                format!("{txid} does not name its parent {} ({home}, {publish_seq})", prev.txid)
            })?;
        }
        Ok(())
    }

    /// A copy got its verdict.
    pub fn on_verdict(&mut self, frag: &VerdictFrag, truth: &impl Truth) -> Checked {
        use TxVerdict as V;
        self.checks += 3;
        self.verdicts[frag.verdict as usize] += 1;
        let (height, roomy, aging, costly_fails) =
            (self.height, self.roomy, self.aging, self.costly_fails);
        let at = frag.token.wrapping_sub(1) as usize;
        let Some(token) = self.tokens.get_mut(at) else {
            return ensure(false, || {
                format!("a verdict for copy {}, which was never sent", frag.token)
            });
        };
        ensure(token.verdict.is_none(), || {
            format!(
                "copy {} of {:?} has two verdicts: {:?}, {:?}",
                frag.token, token.txid, token.verdict, frag.verdict
            )
        })?;
        token.verdict = Some(frag.verdict);
        let token = *token;
        let Some(txid) = token.txid else {
            return ensure(frag.verdict == V::Malformed, || {
                format!("bytes that are no transaction got {:?}", frag.verdict)
            });
        };
        let verdict = frag.verdict;
        let wrong = |why: &str| format!("{txid} (copy {}) got {verdict:?}: {why}", frag.token);
        let is_known = |id: &TxId| truth.seen(id) != SeenState::Unknown;
        let info = self.txs.get(&txid).expect("every token's transaction was made");
        // Bytes that break a rule before they are hashed carry no name.
        if !matches!(verdict, V::Overloaded | V::Malformed) {
            ensure(frag.txid == txid, || wrong("it speaks of another transaction"))?;
        }
        let flaw = info.flaw;
        let has_parents = info.tx.inputs.iter().any(|i| !self.is_base(&i.prev));
        let costly = || {
            let lock = |i: &consensus::tx::TxIn| self.coins.get(&i.prev).map(|c| c.lock);
            info.tx.inputs.iter().any(|i| matches!(lock(i), Some(Lock::Costly(_))))
        };
        match verdict {
            V::Accepted => {
                let sound = match flaw {
                    Flaw::None => true,
                    Flaw::LockedUntil(until) => height > until,
                    _ => false,
                };
                ensure(sound, || wrong("it is not sound"))?;
                ensure(!token.lies, || wrong("the copy claims other coins"))?;
                ensure(is_known(&txid), || wrong("its home does not know it"))?;
                ensure(!info.told, || wrong("another copy was told so"))?;
                ensure(frag.fee_sat == info.fee_sat, || wrong("its fee is another"))?;
            }
            V::Known => ensure(is_known(&txid), || wrong("its home does not know it"))?,
            V::Malformed => ensure(false, || wrong("it is well formed"))?,
            V::Invalid => ensure(flaw == Flaw::Value, || wrong("its values are sound"))?,
            V::NonFinal => {
                let locked = matches!(flaw, Flaw::LockedUntil(until) if token.height <= until);
                ensure(locked, || wrong("it is final"))?;
            }
            V::Policy => ensure(flaw == Flaw::Fee, || wrong("it pays enough"))?,
            V::ScriptFailed => ensure(flaw == Flaw::Script, || wrong("its scripts are sound"))?,
            V::DoubleSpend => {
                ensure(frag.other != txid, || wrong("by itself"))?;
                ensure(is_known(&frag.other), || wrong("the winner was not accepted"))?;
                let coin = info.tx.inputs.get(frag.vin as usize).map(|i| i.prev);
                let winner = self.txs.get(&frag.other);
                let same = winner.is_some_and(|w| w.tx.inputs.iter().any(|i| Some(i.prev) == coin));
                ensure(same, || wrong("the winner does not spend that coin"))?;
            }
            V::Immature => {
                let young = |prev: &OutPoint| {
                    let base = self.coins.get(prev).and_then(|c| c.base);
                    matches!(base, Some((at, true)) if token.height < at + 100)
                };
                let any = info.tx.inputs.iter().any(|i| young(&i.prev));
                ensure(any, || wrong("its coins are old enough"))?;
            }
            V::OrphanExpired => {
                ensure(has_parents, || wrong("it has no parent to wait for"))?;
                ensure(!roomy || aging, || wrong("there was room and time"))?;
            }
            V::ParentRejected => {
                let is_parent = info.tx.inputs.iter().any(|i| i.prev.txid == frag.other);
                ensure(is_parent, || wrong("of something that is no parent"))?;
                let vin = frag.vin;
                self.blamed.push((txid, frag.other, vin));
            }
            V::Overloaded => ensure(!roomy, || wrong("there was room"))?,
            V::TooCostly => ensure(costly_fails && costly(), || wrong("it costs little"))?,
            V::CoinMismatch => ensure(token.lies, || wrong("the copy tells the truth"))?,
            V::Frozen => {
                let was = info.tx.inputs.iter().any(|i| self.frozen.contains_key(&i.prev));
                ensure(was, || wrong("its coins were never frozen"))?;
            }
            V::MissingInput | V::Locked => {
                ensure(false, || wrong("nothing of that kind"))?;
            }
        }
        let info = self.txs.get_mut(&txid).expect("it was there a moment ago");
        info.told |= verdict == V::Accepted;
        info.refused |= ends_children(verdict);
        info.turned_away |= matches!(verdict, V::Overloaded | V::OrphanExpired | V::TooCostly);
        Ok(())
    }

    /// What children were refused for was refused itself, or never had what they wanted.
    pub fn check_blamed(&mut self) -> Checked {
        for (child, parent, _) in std::mem::take(&mut self.blamed) {
            self.checks += 1;
            let info = &self.txs[&child];
            let spends: Vec<_> =
                info.tx.inputs.iter().filter(|i| i.prev.txid == parent).map(|i| i.prev).collect();
            let lacks = spends.iter().any(|prev| !self.coins.contains_key(prev));
            let refused = self.txs.get(&parent).is_some_and(|p| p.refused);
            ensure(lacks || refused, || {
                format!("{child} was refused for its parent {parent}, which was never refused")
            })?;
        }
        Ok(())
    }

    /// Whether a transaction could be accepted now: sound, all its coins there and unspent.
    pub fn could_be_accepted(&self, txid: &TxId) -> bool {
        let info = &self.txs[txid];
        if info.accepted.is_some() {
            return false;
        }
        let sound = match info.flaw {
            Flaw::None => true,
            Flaw::LockedUntil(until) => self.height > until,
            _ => false,
        };
        sound
            && info.tx.inputs.iter().all(|input| {
                let prev = input.prev;
                let Some(coin) = self.coins.get(&prev) else { return false };
                if self.costly_fails && matches!(coin.lock, Lock::Costly(_)) {
                    return false;
                }
                let there = match coin.base {
                    Some((at, coinbase)) => !coinbase || self.height >= at + 100,
                    None => self.txs.get(&prev.txid).is_some_and(|p| p.accepted.is_some()),
                };
                let frozen = self.frozen.get(&prev).copied().unwrap_or(false);
                there && !frozen && !self.spent_by.contains_key(&prev)
            })
    }

    /// Every coin that is there and unspent, with its value.
    pub fn utxos(&self) -> BTreeMap<OutPoint, u64> {
        let there = |at: &OutPoint, coin: &CoinInfo| {
            coin.base.is_some() || self.txs.get(&at.txid).is_some_and(|t| t.accepted.is_some())
        };
        self.coins
            .iter()
            .filter(|(at, coin)| there(at, coin) && !self.spent_by.contains_key(at))
            .map(|(at, coin)| (*at, coin.value_sat))
            .collect()
    }

    /// Leaves of a candidate, in order: accepted, not mined, once each, parents before children. Gives fees and sizes.
    pub fn check_leaves(&mut self, leaves: &[TxId]) -> Checked<(u64, u64)> {
        let mut placed = BTreeMap::new();
        let (mut fees, mut sizes) = (0, 0);
        for (i, txid) in leaves.iter().enumerate() {
            self.checks += 2;
            let info = self.txs.get(txid);
            let fresh = info.is_some_and(|info| info.accepted.is_some() && !info.mined);
            ensure(fresh, || format!("leaf {txid} is not an accepted, unmined transaction"))?;
            let info = &self.txs[txid];
            ensure(placed.insert(*txid, i).is_none(), || format!("leaf {txid} stands twice"))?;
            fees += info.fee_sat;
            sizes += info.size_bytes;
            for input in &info.tx.inputs {
                let parent = input.prev.txid;
                let first = match self.txs.get(&parent) {
                    Some(parent_info) => parent_info.mined || placed.contains_key(&parent),
                    None => true,
                };
                ensure(first, || format!("leaf {txid} stands before its parent {parent}"))?;
            }
        }
        Ok((fees, sizes))
    }
}
