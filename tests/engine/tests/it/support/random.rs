//! Chance that a failing test can repeat.

/// xorshift64*, seeded. Algorithm: Sebastiano Vigna, "An experimental exploration of Marsaglia's xorshift generators".
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// From 0 up to, but not including, `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }
}
