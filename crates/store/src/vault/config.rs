//! The vault's config: its version, its id, and the secret that seeds its chunker.

use lifeboat_io::Random;
use serde::{Deserialize, Serialize};

use super::{Id, VaultError, seal::Sealer};

/// Where it lies.
pub(crate) const KEY: &str = "config";

/// The polynomial's degree in restic.
const DEGREE: u32 = 53;

/// The config as restic writes it. Sealed, never compressed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub version: u64,
    pub id: String,
    /// Irreducible over GF(2), of degree 53, hex. restic's chunker uses it, and ours takes its seed from it.
    pub chunker_polynomial: String,
}

impl Config {
    /// A new vault's.
    pub fn random(random: &dyn Random) -> Config {
        let mut id = [0; 32];
        random.fill(&mut id);
        Config { version: 2, id: Id(id).hex(), chunker_polynomial: format!("{:x}", random_polynomial(random)) }
    }

    /// Opens and reads the stored bytes; nothing when they were sealed with another key.
    pub fn open(stored: &[u8], sealer: &Sealer, place: &str) -> Option<Result<Config, VaultError>> {
        let mut bytes = stored.to_vec();
        let plain = sealer.open(&mut bytes)?;
        Some(Config::parse(plain, place))
    }

    fn parse(plain: &[u8], place: &str) -> Result<Config, VaultError> {
        let config: Config =
            serde_json::from_slice(plain).map_err(|error| VaultError::damaged(KEY, error.to_string()))?;
        match config.version {
            1 | 2 => {}
            0 => return Err(VaultError::damaged(KEY, "it has version 0")),
            version => return Err(VaultError::TooNew { place: place.to_owned(), version }),
        }
        if u64::from_str_radix(&config.chunker_polynomial, 16).is_err() {
            return Err(VaultError::damaged(KEY, "its chunker polynomial is not a number"));
        }
        Ok(config)
    }

    /// Whether blobs and JSON files may be compressed.
    pub fn compresses(&self) -> bool {
        self.version >= 2
    }
}

/// A random irreducible polynomial over GF(2) of degree 53. restic refuses a vault whose polynomial is reducible.
fn random_polynomial(random: &dyn Random) -> u64 {
    loop {
        let low = random.bits() & ((1 << DEGREE) - 1);
        let polynomial = low | 1 << DEGREE | 1;
        if is_irreducible(polynomial) {
            return polynomial;
        }
    }
}

/// Ben-Or's test: no factor of degree i divides x^(2^i) - x, for every i up to half the degree.
fn is_irreducible(polynomial: u64) -> bool {
    let x = 0b10;
    let mut power = x;
    for _ in 0..degree(polynomial) / 2 {
        power = multiply(power, power, polynomial);
        if greatest_common_divisor(polynomial, power ^ x) != 1 {
            return false;
        }
    }
    true
}

fn degree(polynomial: u64) -> u32 {
    polynomial.checked_ilog2().unwrap_or(0)
}

/// Product of two remainders, modulo the polynomial.
fn multiply(mut left: u64, mut right: u64, modulus: u64) -> u64 {
    let mut product = 0;
    while right != 0 {
        if right & 1 == 1 {
            product ^= left;
        }
        right >>= 1;
        left <<= 1;
        if left >> degree(modulus) & 1 == 1 {
            left ^= modulus;
        }
    }
    product
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        while left != 0 && degree(left) >= degree(right) {
            left ^= right << (degree(left) - degree(right));
        }
        std::mem::swap(&mut left, &mut right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_polynomials_are_told_apart() {
        // x, x+1, x²+x+1, x³+x+1, x³+x²+1, x⁴+x+1, x⁸+x⁴+x³+x+1
        for prime in [0b10, 0b11, 0b111, 0b1011, 0b1101, 0b10011, 0b1_0001_1011] {
            assert!(is_irreducible(prime), "{prime:b}");
        }
        // x², (x+1)², x³+1, (x²+x+1)², x⁴+x²+1, x⁸+1
        for product in [0b100, 0b101, 0b1001, 0b10101, 0b1_0000_0001] {
            assert!(!is_irreducible(product), "{product:b}");
        }
    }

    #[test]
    fn polynomials_that_restic_made_pass() {
        for polynomial in [0x25b468838dcb75, 0x3DA3358B4DC173] {
            assert!(is_irreducible(polynomial), "{polynomial:x}");
        }
        assert!(!is_irreducible(0x25b468838dcb75 ^ 0b110), "and a neighbour does not");
    }
}
