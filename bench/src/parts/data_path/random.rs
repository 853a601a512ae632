//! Numbers that are the same in every run, so that all contenders get the same ports.

/// Marsaglia's xorshift, 64 bits.
pub struct Random(u64);

impl Random {
    /// Numbers of a round.
    pub fn new(seed: usize) -> Random {
        let mut random = Random(seed as u64 * 2 + 0x9e37_79b9_7f4a_7c15);
        random.next();
        random
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
