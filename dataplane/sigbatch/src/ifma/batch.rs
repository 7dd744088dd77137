//! A batch: from checks to what the kernel says of each, in windows of fixed size, nothing allocated after the start.
//!
//! In: checks. Out: [`Outcome`]s. Items whose bytes are unusual take no lane. The others are packed densely, so that which lanes
//! an item stands in depends on its neighbours only; sixteen at a time go to two groups side by side, a rest of up to eight to
//! one group, empty lanes are filled with the last item and their answers are not read. Fewer than [`WORTH`] are left to
//! libsecp256k1.

use super::ecmult::{GroupIn, GroupOut, Judge};
use super::fixed::{FixedTables, WrongTables};
use super::lane::{Lane, Line};
use super::parse::{KeyY, Numbers, parse};
use super::point::Scratch;
use super::scalar::{self, Half, Words};
use crate::Check;

/// Items that share one inversion.
pub const WINDOW: usize = 256;
/// Fewer items than this are faster in libsecp256k1 (measured: `bench -- sig`, key `crossover_n`).
pub const WORTH: usize = 2;
/// Lanes of a group.
const LANES: usize = 8;

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Nothing: not its kind of input, or not worth a lane.
    #[default]
    Unsure,
    /// The signature is right.
    Accept,
    /// It is not. libsecp256k1 has the last word.
    Refuse,
}

/// One item on its way through.
#[derive(Clone, Copy, Debug)]
struct Slot {
    numbers: Numbers,
    /// Its place in the window.
    place: usize,
    /// s in Montgomery form, then 1/s.
    s: Words,
    /// Product of all s before it.
    before: Words,
    k1: Half,
    k2: Half,
    u1: Words,
}

const NO_SLOT: Slot = Slot {
    numbers: Numbers { x: [0; 4], y: KeyY::Odd(false), r: [0; 4], s: [0; 4], z: [0; 4] },
    place: 0,
    s: [0; 4],
    before: [0; 4],
    k1: [0; 3],
    k2: [0; 3],
    u1: [0; 4],
};

/// The kernel over one kind of lane, with its room to work in.
#[derive(Clone, Debug)]
pub struct Batch<L> {
    fixed: &'static FixedTables,
    slots: Box<[Slot]>,
    two: Box<Scratch<L, 2>>,
    one: Box<Scratch<L, 1>>,
}

impl<L: Lane> Batch<L> {
    /// Makes the fixed tables if this process has none yet, and the room to work in.
    pub fn new() -> Result<Self, WrongTables> {
        Ok(Self {
            fixed: FixedTables::shared::<L>()?,
            slots: vec![NO_SLOT; WINDOW].into_boxed_slice(),
            two: Box::new(Scratch::new()),
            one: Box::new(Scratch::new()),
        })
    }

    /// Judges up to [`WINDOW`] checks, check `i` from `get(i)`.
    pub fn judge<'a>(&mut self, get: impl Fn(usize) -> Check<'a>, outcomes: &mut [Outcome]) {
        assert!(outcomes.len() <= WINDOW, "a window has at most {WINDOW} items");
        outcomes.fill(Outcome::Unsure);
        let mut count = 0;
        for place in 0..outcomes.len() {
            if let Some(numbers) = parse(&get(place)) {
                self.slots[count] = Slot { numbers, place, ..NO_SLOT };
                count += 1;
            }
        }
        let mut at = 0;
        let worth = count - if count % (2 * LANES) < WORTH { count % (2 * LANES) } else { 0 };
        self.digits(worth);
        while at < worth {
            let size = (worth - at).min(2 * LANES);
            if size > LANES {
                self.groups::<2>(at, size, outcomes);
            } else {
                self.groups::<1>(at, size, outcomes);
            }
            at += size;
        }
    }

    /// u1 and u2 of the first `count` slots, as digits.
    fn digits(&mut self, count: usize) {
        let slots = &mut self.slots[..count];
        let mut product = scalar::ONE;
        for slot in &mut *slots {
            slot.s = scalar::mul(&scalar::INTO, &slot.numbers.s);
            slot.before = product;
            product = scalar::mul(&product, &slot.s);
        }
        let mut rest = scalar::invert(&product);
        for slot in slots.iter_mut().rev() {
            let inverse = scalar::mul(&rest, &slot.before);
            rest = scalar::mul(&rest, &slot.s);
            let u1 = scalar::mul(&slot.numbers.z, &inverse);
            let u2 = scalar::mul(&slot.numbers.r, &inverse);
            let (k1, k2) = scalar::split_odd(&u2);
            // n is odd, so one of u1 and n - u1 is; with the other halves negated too the sum is the opposite point, whose x
            // is the same.
            let (u1, k1, k2) = if u1[0] & 1 == 1 {
                (u1, k1, k2)
            } else {
                let minus = scalar::sub(&scalar::N, &u1).0;
                (minus, scalar::negate_half(&k1), scalar::negate_half(&k2))
            };
            slot.k1 = scalar::half_digits(&k1);
            slot.k2 = scalar::half_digits(&k2);
            slot.u1 = scalar::whole_digits(&u1);
        }
    }

    /// Judges `size` slots from `at` in N groups.
    fn groups<const N: usize>(&mut self, at: usize, size: usize, outcomes: &mut [Outcome])
    where
        Self: Room<L, N>,
    {
        let mut groups = [GroupIn::default(); N];
        for (g, group) in groups.iter_mut().enumerate() {
            for lane in 0..LANES {
                let slot = &self.slots[at + (g * LANES + lane).min(size - 1)];
                fill(group, lane, slot);
            }
        }
        let mut out = [GroupOut::default(); N];
        let fixed = self.fixed;
        let step = Judge { fixed, scratch: self.room(), groups: &groups, out: &mut out };
        L::outlined(step);
        for (i, slot) in self.slots[at..at + size].iter().enumerate() {
            let (out, bit) = (&out[i / LANES], 1 << (i % LANES));
            outcomes[slot.place] = if out.on_curve & bit == 0 {
                Outcome::Refuse
            } else if out.regular & bit == 0 {
                Outcome::Unsure
            } else if out.same_x & bit != 0 {
                Outcome::Accept
            } else if scalar::less(&slot.numbers.r, &scalar::P_MINUS_N) {
                // r + n is another x this r stands for.
                Outcome::Unsure
            } else {
                Outcome::Refuse
            };
        }
    }
}

/// Where N groups build their tables.
trait Room<L, const N: usize> {
    fn room(&mut self) -> &mut Scratch<L, N>;
}

impl<L> Room<L, 2> for Batch<L> {
    fn room(&mut self) -> &mut Scratch<L, 2> {
        &mut self.two
    }
}

impl<L> Room<L, 1> for Batch<L> {
    fn room(&mut self) -> &mut Scratch<L, 1> {
        &mut self.one
    }
}

/// Writes a slot into a lane.
#[inline]
fn fill(group: &mut GroupIn, lane: usize, slot: &Slot) {
    fn put<const W: usize>(lines: &mut [Line; W], lane: usize, words: &[u64; W]) {
        for (line, word) in lines.iter_mut().zip(words) {
            line.0[lane] = *word;
        }
    }
    put(&mut group.x, lane, &slot.numbers.x);
    match slot.numbers.y {
        KeyY::Odd(odd) => group.y_odd |= u8::from(odd) << lane,
        KeyY::Given(y) => {
            group.y_given |= 1 << lane;
            put(&mut group.y, lane, &y);
        }
    }
    put(&mut group.k1, lane, &slot.k1);
    put(&mut group.k2, lane, &slot.k2);
    put(&mut group.u1, lane, &slot.u1);
    put(&mut group.r, lane, &slot.numbers.r);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;
    use crate::ifma::model::Model;
    use crate::proof::cases::{CATEGORIES, Case, bytes_of, draw_case};
    use crate::proof::draw::Draw;
    use crate::verifier::libsecp256k1;

    fn batch() -> Batch<Model> {
        Batch::new().expect("the fixed tables have their hash")
    }

    fn judged(batch: &mut Batch<Model>, cases: &[Case]) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Accept; cases.len()];
        batch.judge(|i| cases[i].check(), &mut outcomes);
        outcomes
    }

    /// What the kernel may say of a case: more than one thing only where its formulas may have met an exceptional point.
    fn allowed(case: &Case) -> Vec<Outcome> {
        let Some(numbers) = parse(&case.check()) else { return vec![Outcome::Unsure] };
        let verdict = libsecp256k1(&case.check());
        let decided = if verdict.is_valid() { Outcome::Accept } else { Outcome::Refuse };
        if verdict == crate::SigVerdict::BadKey {
            return vec![Outcome::Refuse];
        }
        let small = scalar::less(&numbers.r, &scalar::P_MINUS_N);
        match (verdict.is_valid(), small, case.category) {
            (true, true, _) => vec![Outcome::Accept, Outcome::Unsure],
            (false, true, _) => vec![Outcome::Unsure],
            (_, false, 19..=21) => vec![decided, Outcome::Unsure],
            _ => vec![decided],
        }
    }

    #[test]
    fn the_kernel_decides_every_kind_of_case_itself_and_as_libsecp256k1_does() {
        let mut batch = batch();
        let mut draw = Draw::new(41);
        let mut left = [9; CATEGORIES];
        let mut cases = Vec::new();
        while left.iter().any(|left| *left > 0) {
            let case = draw_case(&mut draw);
            if left[case.category] > 0 {
                left[case.category] -= 1;
                cases.push(case);
            }
        }
        // Two rests: of one group, and of two.
        for (from, to) in [(0, 137), (137, cases.len())] {
            let cases = &cases[from..to];
            for (case, got) in cases.iter().zip(judged(&mut batch, cases)) {
                assert!(allowed(case).contains(&got), "{got:?}: {case:02x?}");
            }
        }
    }

    #[test]
    fn every_count_up_to_two_rounds_is_judged_but_a_single_one() {
        let mut batch = batch();
        let mut draw = Draw::new(42);
        let cases: Vec<Case> = (0..18).map(|i| Case::signed(&mut draw, i % 3 != 1)).collect();
        for count in [0, 1, 2, 7, 8, 9, 16, 17, 18] {
            let got = judged(&mut batch, &cases[..count]);
            for (i, got) in got.iter().enumerate() {
                let lone = i == count - 1 && count % 16 == 1;
                let decided = if i % 3 == 1 { Outcome::Refuse } else { Outcome::Accept };
                let expected = if lone { Outcome::Unsure } else { decided };
                assert_eq!(*got, expected, "item {i} of {count}");
            }
        }
    }

    #[test]
    fn unusual_items_take_no_lane_and_keep_their_place() {
        let mut batch = batch();
        let mut draw = Draw::new(43);
        let mut cases: Vec<Case> = (0..12).map(|i| Case::signed(&mut draw, i != 7)).collect();
        cases[0].key.clear();
        cases[5].der = Some(vec![0x30]);
        let got = judged(&mut batch, &cases);
        for (i, got) in got.iter().enumerate() {
            let expected = match i {
                0 | 5 => Outcome::Unsure,
                7 => Outcome::Refuse,
                _ => Outcome::Accept,
            };
            assert_eq!(*got, expected, "item {i}");
        }
    }

    #[test]
    fn a_wrong_signature_is_refused_only_where_r_stands_for_one_number() {
        let mut batch = batch();
        let mut draw = Draw::new(44);
        let below = scalar::sub(&scalar::P_MINUS_N, &[1, 0, 0, 0]).0;
        let above = [scalar::P_MINUS_N[0] + 1, scalar::P_MINUS_N[1], 1, 0];
        let with_r = |draw: &mut Draw, r: &Words| {
            let mut case = Case { der: None, ..Case::signed(draw, true) };
            case.compact[..32].copy_from_slice(&bytes_of(r));
            case
        };
        let rs = [below, scalar::P_MINUS_N, above, [1, 0, 0, 0]];
        let cases: Vec<Case> = rs.iter().map(|r| with_r(&mut draw, r)).collect();
        let refused = Outcome::Refuse;
        let expected = [Outcome::Unsure, refused, refused, Outcome::Unsure];
        assert_eq!(judged(&mut batch, &cases), expected);
    }

    #[test]
    fn keys_with_and_without_their_y_stand_side_by_side() {
        let mut batch = batch();
        let mut draw = Draw::new(45);
        let mut cases: Vec<Case> = Vec::new();
        while cases.len() < 32 {
            let case = Case::signed(&mut draw, true);
            // First only keys with y, which need no root; then both kinds.
            if cases.len() >= 16 || case.key.len() == 65 {
                cases.push(case);
            }
        }
        assert!(judged(&mut batch, &cases).iter().all(|got| *got == Outcome::Accept));
        for case in &mut cases {
            let last = case.key.len() - 1;
            case.key[last] ^= 2;
            case.key[0] = if last == 64 { 4 } else { case.key[0] };
        }
        for (case, got) in cases.iter().zip(judged(&mut batch, &cases)) {
            assert!(allowed(case).contains(&got) && got == Outcome::Refuse, "{got:?}: {case:02x?}");
        }
    }

    #[test]
    fn signatures_are_dealt_to_their_places_whatever_form_they_came_in() {
        let mut batch = batch();
        let mut draw = Draw::new(46);
        let case = Case::compressed(&mut draw);
        let der = case.der.clone().expect("compressed rows are DER");
        let mut outcomes = [Outcome::Refuse; 3];
        let forms = [Signature::Der(&der), Signature::Compact(&case.compact), Signature::Der(&der)];
        batch.judge(|i| Check { signature: forms[i], ..case.check() }, &mut outcomes);
        assert_eq!(outcomes, [Outcome::Accept; 3]);
    }
}
