//! Lanes as intervals: one run of the kernel proves its bounds for every input.
//!
//! A lane is the least and the greatest number it can hold. The kernel asks nothing of a lane that would change its course
//! (where it selects, both sides are joined), so a run over the intervals of *all* inputs meets every sum, difference and
//! factor of every run: when none of them leaves its bounds here, none ever does. That is the proof that no carry is lost.

use super::lane::{Lane, Line, M52, Step};

/// What a lane can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub least: u64,
    pub greatest: u64,
}

/// Any word.
pub const ANY: Interval = Interval { least: 0, greatest: u64::MAX };

fn up_to(greatest: u64) -> Interval {
    Interval { least: 0, greatest }
}

/// All bits that a number up to `x` can have.
fn bits(x: u64) -> u64 {
    if x == 0 { 0 } else { u64::MAX >> x.leading_zeros() }
}

impl Interval {
    fn join(self, b: Self) -> Self {
        Self { least: self.least.min(b.least), greatest: self.greatest.max(b.greatest) }
    }

    fn factor(self) -> u128 {
        assert!(self.greatest <= M52, "a factor can have more than 52 bits: {self:x?}");
        u128::from(self.greatest)
    }

    fn low_52(self) -> Self {
        if self.greatest <= M52 { self } else { up_to(M52) }
    }

    /// As the kernel's memory holds it: the ends in the first two words.
    pub fn line(self) -> Line {
        Line([self.least, self.greatest, 0, 0, 0, 0, 0, 0])
    }
}

impl Lane for Interval {
    fn splat(x: u64) -> Self {
        Self { least: x, greatest: x }
    }

    fn load(line: &Line) -> Self {
        Self { least: line.0[0], greatest: line.0[1] }
    }

    fn store(self) -> Line {
        self.line()
    }

    fn add(self, b: Self) -> Self {
        let greatest = self.greatest.checked_add(b.greatest);
        let greatest = greatest.expect("a sum can leave its lane");
        Self { least: self.least + b.least, greatest }
    }

    fn sub(self, b: Self) -> Self {
        let least = self.least.checked_sub(b.greatest);
        let least = least.expect("a difference can go below zero");
        Self { least, greatest: self.greatest - b.least }
    }

    fn and(self, b: Self) -> Self {
        if b.least == b.greatest && bits(b.least) == b.least && self.greatest <= b.least {
            return self;
        }
        up_to(self.greatest.min(b.greatest))
    }

    fn or(self, b: Self) -> Self {
        let greatest = bits(self.greatest | b.greatest);
        Self { least: self.least.max(b.least), greatest }
    }

    fn xor(self, b: Self) -> Self {
        up_to(bits(self.greatest | b.greatest))
    }

    fn scale<const S: u32>(self) -> Self {
        assert!(self.greatest.leading_zeros() >= S, "{self:x?} << {S} can leave its lane");
        Self { least: self.least << S, greatest: self.greatest << S }
    }

    fn shl<const S: u32>(self) -> Self {
        self.shl_by(S)
    }

    fn shr<const S: u32>(self) -> Self {
        self.shr_by(S)
    }

    fn shl_by(self, s: u32) -> Self {
        if self.greatest.leading_zeros() >= s {
            Self { least: self.least << s, greatest: self.greatest << s }
        } else {
            ANY
        }
    }

    fn shr_by(self, s: u32) -> Self {
        Self { least: self.least >> s, greatest: self.greatest >> s }
    }

    fn mul_low(self, a: Self, b: Self) -> Self {
        let product = a.factor() * b.factor();
        self.add(up_to(product.min(u128::from(M52)) as u64))
    }

    fn mul_high(self, a: Self, b: Self) -> Self {
        let least = (u128::from(a.least) * u128::from(b.least)) >> 52;
        let greatest = (a.factor() * b.factor()) >> 52;
        self.add(Self { least: least as u64, greatest: greatest as u64 })
    }

    fn cut_low(self, a: Self, b: Self) -> Self {
        self.mul_low(a.low_52(), b)
    }

    fn cut_high(self, a: Self, b: Self) -> Self {
        self.mul_high(a.low_52(), b)
    }

    /// Means nothing here: [`Lane::select`] takes both sides whatever the mask.
    fn zeros(self) -> u8 {
        0
    }

    fn select(self, _mask: u8, b: Self) -> Self {
        self.join(b)
    }

    /// Fixed tables hold any words.
    fn gather<const ROWS: usize>(_table: &[Line; ROWS], _row: Self, word: usize) -> Self {
        assert!(word < 8, "a row has eight words");
        ANY
    }

    fn gather_own<const ROWS: usize>(table: &[[Line; 5]; ROWS], row: Self, limb: usize) -> Self {
        assert!(row.greatest < ROWS as u64, "a row outside the table can be asked for: {row:x?}");
        let rows = table.iter().map(|lines| Self::load(&lines[limb]));
        rows.reduce(Self::join).expect("a table has rows")
    }

    #[inline(never)]
    fn outlined<S: Step>(step: S) {
        step.run();
    }

    #[inline(never)]
    fn part<S: Step>(step: S) {
        step.run();
    }
}

mod tests {
    use super::*;
    use crate::ifma::ecmult::{GroupIn, GroupOut, Judge};
    use crate::ifma::field::*;
    use crate::ifma::fixed::FixedTables;
    use crate::ifma::model::Model;
    use crate::ifma::point::{MULTIPLES, Scratch};
    use crate::proof::draw::Draw;

    /// Every number of a magnitude.
    fn all_of(magnitude: u64) -> Fes<Interval, 1> {
        let top = magnitude * (M48 + (1 << 10)) + (magnitude - 1);
        [Fe([up_to(M52), up_to(M52), up_to(M52), up_to(M52), up_to(top)])]
    }

    fn assert_magnitude(x: &Fes<Interval, 1>, magnitude: u64) {
        let bound = all_of(magnitude);
        for i in 0..5 {
            let (got, most) = (x[0].0[i].greatest, bound[0].0[i].greatest);
            assert!(got <= most, "limb {i}: {got:#x} above {most:#x} of magnitude {magnitude}");
        }
    }

    #[test]
    fn every_reduction_gives_magnitude_one_whatever_the_columns_up_to_their_bound() {
        // Two products of magnitudes 3 and 3, times 8, and 4p: more than any step asks for.
        let (one, three) = (all_of(1), all_of(3));
        let mut c = wide();
        wide_mul(&mut c, &three, &three);
        wide_mul(&mut c, &three, &three);
        wide_add(&mut c, P4);
        assert_magnitude(&reduce::<Interval, 1, 1>(&c), 1);
        assert_magnitude(&reduce::<Interval, 1, 2>(&c), 1);
        assert_magnitude(&reduce::<Interval, 1, 3>(&c), 1);
        assert_magnitude(&reduce::<Interval, 1, 4>(&c), 1);
        assert_magnitude(&reduce::<Interval, 1, 8>(&c), 1);
        wide_eight(&mut c);
        assert_magnitude(&reduce::<Interval, 1, 1>(&c), 1);
        assert_magnitude(&square(&three), 1);
        assert_magnitude(&narrow(&three), 1);
        assert_magnitude(&sub(&one, &one), 3);
        assert_magnitude(&negate(&one), 2);
        assert_magnitude(&twice(&one), 2);
    }

    #[test]
    #[should_panic(expected = "below zero")]
    fn a_number_of_magnitude_two_may_not_be_taken_from_twice_p() {
        let _ = sub(&all_of(1), &all_of(3));
    }

    #[test]
    #[should_panic(expected = "more than 52 bits")]
    fn columns_above_their_bound_are_noticed() {
        let big = all_of(15);
        let mut c = wide();
        for _ in 0..3 {
            wide_mul(&mut c, &big, &big);
        }
        let _ = reduce::<Interval, 1, 1>(&c);
    }

    fn run<const N: usize>(y_given: u8) -> ([GroupOut; N], Box<Scratch<Interval, N>>) {
        let any = ANY.line();
        let group = GroupIn {
            x: [any; 4],
            y: [any; 4],
            y_given,
            y_odd: 0x55,
            k1: [any; 3],
            k2: [any; 3],
            u1: [any; 4],
            r: [any; 4],
        };
        let fixed = FixedTables::shared::<Model>().expect("the tables have their hash");
        let mut scratch = Box::new(Scratch::<Interval, N>::new());
        let mut out = [GroupOut::default(); N];
        let (groups, out_ref) = (&[group; N], &mut out);
        Interval::outlined(Judge { fixed, scratch: &mut *scratch, groups, out: out_ref });
        (out, scratch)
    }

    #[test]
    fn no_input_at_all_leaves_the_bounds_anywhere_in_the_kernel() {
        // Keys with their y and without take different ways; one group and two run the same steps.
        for y_given in [0, 0xff] {
            let (_, scratch) = run::<1>(y_given);
            for i in 0..MULTIPLES {
                let t = &scratch.tables[0];
                assert_magnitude(&[Fe::load(&t.x[i])], 1);
                assert_magnitude(&[Fe::load(&t.beta_x[i])], 1);
                assert_magnitude(&[Fe::load(&t.y[i])], 2);
                assert_magnitude(&[Fe::load(&t.y[MULTIPLES + i])], 1);
            }
            let _ = run::<2>(y_given);
        }
    }

    /// The proof rests on this: what integers do lies in what intervals say.
    #[test]
    fn results_of_numbers_lie_in_the_results_of_their_intervals() {
        let mut draw = Draw::new(8);
        let mut number = |most: u64| {
            let x = draw.word() & (u64::MAX >> draw.below(64));
            (x % most, draw.word() % most)
        };
        for _ in 0..2_000 {
            let ((a, a2), (b, b2), (c, c2)) = (number(M52), number(M52), number(1 << 60));
            let span = |x: u64, y: u64| Interval { least: x.min(y), greatest: x.max(y) };
            let (ia, ib, ic) = (span(a, a2), span(b, b2), span(c, c2));
            let (ma, mb, mc) = (Model::splat(a), Model::splat(b), Model::splat(c));
            let holds = |interval: Interval, model: Model| {
                let got = model.0[0];
                assert!(interval.least <= got && got <= interval.greatest, "{interval:?} {got}");
            };
            holds(ia.add(ib), ma.add(mb));
            holds(ia.and(ib), ma.and(mb));
            holds(ia.and(Interval::splat(M52 >> 9)), ma.and(Model::splat(M52 >> 9)));
            holds(ia.or(ib), ma.or(mb));
            holds(ia.xor(ib), ma.xor(mb));
            holds(ia.scale::<3>(), ma.scale::<3>());
            holds(ic.shl::<12>(), mc.shl::<12>());
            holds(ic.shr::<48>(), mc.shr::<48>());
            holds(ic.mul_low(ia, ib), mc.mul_low(ma, mb));
            holds(ic.mul_high(ia, ib), mc.mul_high(ma, mb));
            holds(ia.cut_low(ic, ib), ma.cut_low(mc, mb));
            holds(ia.cut_high(ic, ib), ma.cut_high(mc, mb));
            holds(ia.select(0x0f, ib), ma.select(0x0f, mb));
            if ia.greatest <= ic.least {
                holds(ic.sub(ia), mc.sub(ma));
            }
        }
    }
}
