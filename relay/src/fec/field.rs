//! GF(2^8), the field the erasure code computes in: its inverses, its products, and its logarithms.
//!
//! In: bytes. Out: bytes. The polynomial is x^8 + x^4 + x^3 + x + 1 (0x11b), because that is the one the processor's
//! `GF2P8MULB` multiplies in (Intel SDM, volume 2); every other kernel follows it. Addition is exclusive or. The tables
//! are made at compile time: 256 bytes of inverses, 8 KiB of products by nibble, 766 bytes of logarithms and powers.

/// Low byte of the field's polynomial.
const POLYNOMIAL: u8 = 0x1b;

/// The product of two field elements, bit by bit: slow, and what every table and kernel is compared with.
pub const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        let carries = a & 0x80 != 0;
        a <<= 1;
        if carries {
            a ^= POLYNOMIAL;
        }
        b >>= 1;
    }
    product
}

/// Powers of 3, a generator of the field's multiplicative group, twice over: the sum of two logarithms needs no modulo.
const POWERS: [u8; 510] = {
    let mut powers = [0; 510];
    let mut power = 1;
    let mut at = 0;
    while at < 255 {
        powers[at] = power;
        powers[at + 255] = power;
        power = multiply(power, 3);
        at += 1;
    }
    powers
};

/// Logarithms to the base 3; that of 0 does not exist and is never looked up.
const LOGARITHMS: [u8; 256] = {
    let mut logarithms = [0; 256];
    let mut at = 0;
    while at < 255 {
        logarithms[POWERS[at] as usize] = at as u8;
        at += 1;
    }
    logarithms
};

/// `1 / a` for every `a` but 0.
pub static INVERSE: [u8; 256] = {
    let mut inverse = [0; 256];
    let mut a = 1;
    while a < 256 {
        inverse[a] = POWERS[255 - LOGARITHMS[a] as usize];
        a += 1;
    }
    inverse
};

/// Products by nibble: `NIBBLES[c][x & 15] ^ NIBBLES[c][16 + (x >> 4)]` is `c * x`. The layout is that of `PSHUFB`.
pub static NIBBLES: [[u8; 32]; 256] = {
    let mut nibbles = [[0; 32]; 256];
    let mut c = 0;
    while c < 256 {
        let mut x = 0;
        while x < 16 {
            nibbles[c][x] = multiply(c as u8, x as u8);
            nibbles[c][16 + x] = multiply(c as u8, (x << 4) as u8);
            x += 1;
        }
        c += 1;
    }
    nibbles
};

/// Logarithm of an element that is not 0.
pub fn logarithm(a: u8) -> u32 {
    assert!(a != 0, "the logarithm of 0 was asked for: two symbols of a group have one number");
    u32::from(LOGARITHMS[usize::from(a)])
}

/// The element with this logarithm.
pub fn power(logarithm: u32) -> u8 {
    POWERS[(logarithm % 255) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_agree_with_multiplication_bit_by_bit() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let nibbles = &NIBBLES[usize::from(a)];
                let by_nibble = nibbles[usize::from(b & 15)] ^ nibbles[16 + usize::from(b >> 4)];
                assert_eq!(by_nibble, multiply(a, b), "{a} * {b}");
                if a != 0 && b != 0 {
                    assert_eq!(power(logarithm(a) + logarithm(b)), multiply(a, b), "{a} * {b}");
                }
            }
        }
    }

    #[test]
    fn a_number_times_its_inverse_is_one() {
        for a in 1..=255u8 {
            assert_eq!(multiply(a, INVERSE[usize::from(a)]), 1, "{a}");
        }
    }

    #[test]
    fn the_field_is_the_one_of_fips_197() {
        // FIPS 197 section 4.2: {57} * {83} = {c1}, {57} * {13} = {fe}.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
    }
}
