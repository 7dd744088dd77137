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
