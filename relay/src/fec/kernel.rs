//! Which kernel multiplies: asked of the processor once, and proved equal by tests.
//!
//! In: a matrix of coefficients, inputs, outputs. Out: `outputs = matrix * inputs`. A [`Kernel`] can only be had when the
//! processor reports what it needs, which is what makes the calls below sound.

use super::portable;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// A way to multiply symbols by coefficients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kernel(Backend);

/// The instructions a kernel is made of, best first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Backend {
    /// `GF2P8MULB` on 64 bytes.
    GfniAvx512,
    /// `GF2P8MULB` on 32 bytes.
    GfniAvx2,
    /// `PSHUFB` on 32 bytes.
    Avx2,
    /// `PSHUFB` on 16 bytes.
    Ssse3,
    /// A table of nibbles, one byte at a time.
    Portable,
}

impl Backend {
    /// Every backend, best first.
    pub const ALL: [Self; 5] =
        [Self::GfniAvx512, Self::GfniAvx2, Self::Avx2, Self::Ssse3, Self::Portable];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::GfniAvx512 => "gfni-avx512",
            Self::GfniAvx2 => "gfni-avx2",
            Self::Avx2 => "avx2",
            Self::Ssse3 => "ssse3",
            Self::Portable => "portable",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        match self {
            Self::GfniAvx512 => {
                is_x86_feature_detected!("gfni")
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
            }
            Self::GfniAvx2 => is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx2"),
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Ssse3 => is_x86_feature_detected!("ssse3"),
            Self::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_here(self) -> bool {
        self == Self::Portable
    }
}

impl Kernel {
    /// The best this processor has.
    pub fn best() -> Self {
        let best = Backend::ALL.into_iter().find(|backend| backend.is_here());
        Self(best.expect("the portable backend is everywhere"))
    }

    /// This backend, when the processor has it.
    pub fn of(backend: Backend) -> Option<Self> {
        backend.is_here().then_some(Self(backend))
    }

    /// Every kernel that runs here, best first.
    pub fn all() -> impl Iterator<Item = Self> {
        Backend::ALL.into_iter().filter_map(Self::of)
    }

    /// The instructions it is made of.
    pub fn backend(self) -> Backend {
        self.0
    }

    /// `outputs[j] = sum over i of matrix[j * inputs.len() + i] * inputs[i]`, on top of what stands in the outputs when
    /// `accumulate`.
    ///
    /// Cost: each input is read once per sixteen outputs (eight, four with narrower registers).
    pub fn multiply(
        self,
        matrix: &[u8],
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        accumulate: bool,
    ) {
        assert!(inputs.len() <= 256, "{} inputs: a group has at most 256 symbols", inputs.len());
        assert_eq!(matrix.len(), inputs.len() * outputs.len(), "a matrix of another shape");
        let Some(len) = outputs.first().map(|output| output.len()) else { return };
        assert!(inputs.iter().all(|input| input.len() == len), "an input of another length");
        assert!(outputs.iter().all(|output| output.len() == len), "an output of another length");
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::GfniAvx512 | Backend::GfniAvx2 | Backend::Avx2 | Backend::Ssse3 => {
                let done = x86::multiply(self, matrix, inputs, outputs, accumulate);
                portable::multiply(matrix, inputs, outputs, accumulate, done);
            }
            _ => portable::multiply(matrix, inputs, outputs, accumulate, 0),
        }
    }
}
