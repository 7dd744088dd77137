//! What the verifier needs of a register: eight 64-bit lanes that never influence each other.
//!
//! The same arithmetic runs over several kinds: [`super::zmm::Zmm`] is the machine's, [`super::model::Model`] is eight plain integers
//! that assert every bound; the tests add intervals, which prove the bounds for every input at once, and polynomials, which prove
//! what the arithmetic computes. Multiplications are those of AVX-512 IFMA: of two 52-bit numbers the low or the high 52 bits of the product
//! are added to a 64-bit lane, and bits above 52 of a factor are not looked at.

/// 64 bytes that lie in one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// The low 52 bits.
pub const M52: u64 = (1 << 52) - 1;

/// A piece of the verifier that is one function in the machine code, compiled for the lane's instructions.
pub trait Step {
    /// Does it.
    fn run(self);
}

/// Eight lanes.
pub trait Lane: Copy {
    /// The same number in every lane.
    fn splat(x: u64) -> Self;
    /// Eight numbers.
    fn load(line: &Line) -> Self;
    /// The eight numbers.
    fn store(self) -> Line;
    /// Sum; it fits.
    fn add(self, b: Self) -> Self;
    /// Difference; it is not negative.
    fn sub(self, b: Self) -> Self;
    /// Bits of both.
    fn and(self, b: Self) -> Self;
    /// Bits of either.
    fn or(self, b: Self) -> Self;
    /// Bits of one of them.
    fn xor(self, b: Self) -> Self;
    /// Times 2^S; it fits.
    fn scale<const S: u32>(self) -> Self;
    /// Times 2^S; what leaves at the top is lost.
    fn shl<const S: u32>(self) -> Self;
    /// Divided by 2^S.
    fn shr<const S: u32>(self) -> Self;
    /// As [`Lane::shl`] by a number known while running; 64 and more give 0.
    fn shl_by(self, s: u32) -> Self;
    /// As [`Lane::shr`] by a number known while running.
    fn shr_by(self, s: u32) -> Self;
    /// `self` + low 52 bits of a * b; both have at most 52 bits.
    fn mul_low(self, a: Self, b: Self) -> Self;
    /// `self` + the bits of a * b above the low 52; both have at most 52 bits.
    fn mul_high(self, a: Self, b: Self) -> Self;
    /// As [`Lane::mul_low`] where only the low 52 bits of `a` are meant.
    fn cut_low(self, a: Self, b: Self) -> Self;
    /// As [`Lane::mul_high`] where only the low 52 bits of `a` are meant.
    fn cut_high(self, a: Self, b: Self) -> Self;
    /// One bit a lane: it is 0.
    fn zeros(self) -> u8;
    /// Where the bit of `mask` is set `b`, else `self`.
    fn select(self, mask: u8, b: Self) -> Self;
    /// Keeps the compiler from moving work of one group behind that of the other; costs no instruction.
    #[inline(always)]
    fn pin(&mut self) {}
    /// Word `word` of row `row[lane] % ROWS`; ROWS is a power of two.
    fn gather<const ROWS: usize>(table: &[Line; ROWS], row: Self, word: usize) -> Self;
    /// Limb `limb` of this lane's column in row `row[lane] % ROWS`.
    fn gather_own<const ROWS: usize>(table: &[[Line; 5]; ROWS], row: Self, limb: usize) -> Self;
    /// Asks for the rows before they are read.
    #[inline(always)]
    fn prefetch<const ROWS: usize>(_table: &[Line; ROWS], _row: Self) {}
    /// Runs a step as a function of its own.
    #[inline(always)]
    fn outlined<S: Step>(step: S) {
        step.run();
    }
    /// Runs a small piece of a step: in registers as part of the step's code, in a model as a function of its own, so that no
    /// function grows to thousands of calls that a compiler then studies for minutes.
    #[inline(always)]
    fn part<S: Step>(step: S) {
        step.run();
    }
}

/// Makes functions whose body is a [`Step`] that [`Lane::part`] runs; constants stand in brackets.
macro_rules! part {
    ($(#[$doc:meta])* fn $name:ident [$($k:ident: $kind:ty),*] ($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[inline(always)]
        fn $name<'a, L: Lane, $(const $k: $kind),*>($($arg: $ty),*) {
            struct Part<'a, L, $(const $k: $kind),*> { $($arg: $ty),* }
            impl<'a, L: Lane, $(const $k: $kind),*> Step for Part<'a, L, $($k),*> {
                #[inline(always)]
                fn run(self) {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            L::part(Part::<'a, L, $($k),*> { $($arg),* });
        }
    };
}
pub(super) use part;
