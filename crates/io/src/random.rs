//! Chance: ids, nonces, keys.

/// Random bytes. The twin in tests repeats itself from a seed.
pub trait Random: Send + Sync {
    /// Fills `bytes` with randomness fit for keys.
    fn fill(&self, bytes: &mut [u8]);

    /// 64 random bits, for ids.
    fn bits(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The computer's randomness.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness there are no safe keys and no honest ids; there is nothing sensible to go on with.
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}
