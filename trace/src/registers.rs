//! The registers that expressions load and compare, of which some bytes may not be known.

use hostport_nft::object::ExpressionObject;

use crate::step::Matched;

/// Bytes of which some are not known.
pub(crate) type Bytes = Vec<Option<u8>>;

/// What an expression loads if nothing is known of it: NFT_REG_SIZE of `linux/netfilter/nf_tables.h`.
pub(crate) const UNKNOWN: [Option<u8>; 16] = [None; 16];

pub(crate) fn known(bytes: &[u8]) -> Bytes {
    bytes.iter().copied().map(Some).collect()
}

/// The bytes, if all are known.
pub(crate) fn whole(bytes: &[Option<u8>]) -> Option<Vec<u8>> {
    bytes.iter().copied().collect()
}

/// Whether a byte that is known is another one.
pub(crate) fn differs(loaded: &[Option<u8>], value: &[u8]) -> bool {
    loaded.iter().zip(value).any(|(loaded, byte)| loaded.is_some_and(|loaded| loaded != *byte))
}

/// `nft_byteorder_eval`: turns numbers of a size from the host's order to the network's, or back. What is
/// less than one number stays as it is, such as a protocol, for which nft writes this too.
fn byteorder(mut value: Bytes, size: usize) -> Bytes {
    if cfg!(target_endian = "little") {
        value.chunks_exact_mut(size.max(1)).for_each(<[_]>::reverse);
    }
    value
}

/// The 64 bytes that a rule works with, numbered twice: as 4 registers of 16 bytes (NFT_REG_1 and on)
/// and as 16 of 4 (NFT_REG32_00 and on).
#[derive(Debug, Clone)]
pub(crate) struct Registers([Option<u8>; 64]);

impl Registers {
    pub(crate) fn new() -> Self {
        Registers([None; 64])
    }

    /// Where a register's bytes begin; none for the verdict's and for what is no register.
    fn place(register: Option<u32>) -> Option<usize> {
        match register? {
            register @ 1..=4 => Some((register as usize - 1) * 16),
            register @ 8..=23 => Some((register as usize - 8) * 4),
            _ => None,
        }
    }

    pub(crate) fn get(&self, register: Option<u32>, length: usize) -> Bytes {
        let begin = Self::place(register).unwrap_or(self.0.len());
        (begin..begin.saturating_add(length.min(64)))
            .map(|at| self.0.get(at).copied().flatten())
            .collect()
    }

    /// The bytes of a register, if all are known.
    pub(crate) fn whole(&self, register: Option<u32>, length: usize) -> Option<Vec<u8>> {
        whole(&self.get(register, length))
    }

    /// Stores bytes, and zeros up to the end of their last 32-bit word, as the kernel does.
    pub(crate) fn set(&mut self, register: Option<u32>, bytes: &[Option<u8>]) {
        let Some(begin) = Self::place(register) else { return };
        let length = bytes.len().next_multiple_of(4);
        let value = bytes.iter().copied().chain(std::iter::repeat(Some(0)));
        for (place, byte) in self.0.iter_mut().skip(begin).take(length).zip(value) {
            *place = byte;
        }
    }

    /// NFTA_BYTEORDER_SREG, _DREG, _LEN and _SIZE.
    pub(crate) fn byteorder(&mut self, expression: &ExpressionObject) {
        let [length, size] = [4, 5].map(|kind| expression.number(kind).unwrap_or(0) as usize);
        let value = self.get(expression.number(1), length);
        self.set(expression.number(2), &byteorder(value, size));
    }

    /// NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR and _OP. A byte that is masked away is known, whatever
    /// it was. Of the operations only mask and xor is followed (NFT_BITWISE_BOOL, which is 0).
    pub(crate) fn bitwise(&mut self, expression: &ExpressionObject) {
        let length = (expression.number(3).unwrap_or(0) as usize).min(64);
        let input = self.get(expression.number(1), length);
        let [mask, xor] = [4, 5].map(|kind| expression.value(kind));
        let output = match (expression.number(6).unwrap_or(0), mask, xor) {
            (0, Some(mask), Some(xor)) => input
                .iter()
                .zip(mask.iter().zip(xor))
                .map(|(byte, (mask, xor))| match (byte, mask) {
                    (_, 0) => Some(*xor),
                    (Some(byte), mask) => Some(byte & mask ^ xor),
                    (None, _) => None,
                })
                .collect(),
            _ => vec![None; length],
        };
        self.set(expression.number(2), &output);
    }

    /// NFTA_CMP_SREG, _OP (`enum nft_cmp_ops`) and _DATA. The kernel compares bytes as memcmp(3) does.
    pub(crate) fn compare(&self, expression: &ExpressionObject) -> Matched {
        let (operation, value) = (expression.number(2)?, expression.value(3)?);
        let loaded = self.get(expression.number(1), value.len());
        // One byte that is known may be enough.
        if operation <= 1 && differs(&loaded, value) {
            return Some(operation == 1);
        }
        let order = whole(&loaded)?.as_slice().cmp(value);
        match operation {
            0 => Some(order.is_eq()),
            1 => Some(order.is_ne()),
            2 => Some(order.is_lt()),
            3 => Some(order.is_le()),
            4 => Some(order.is_gt()),
            5 => Some(order.is_ge()),
            _ => None,
        }
    }

    /// NFTA_RANGE_SREG, _OP (`enum nft_range_ops`: equal, not equal), _FROM_DATA and _TO_DATA.
    pub(crate) fn range(&self, expression: &ExpressionObject) -> Matched {
        let (from, to) = (expression.value(3)?, expression.value(4)?);
        let loaded = self.whole(expression.number(1), from.len())?;
        let inside = (from..=to).contains(&loaded.as_slice());
        match expression.number(2)? {
            0 => Some(inside),
            1 => Some(!inside),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn whole_numbers_change_their_byte_order_and_less_than_one_does_not() {
        assert_eq!(byteorder(known(&[1, 2, 3, 4]), 4), known(&[4, 3, 2, 1]));
        assert_eq!(byteorder(known(&[1, 2, 3, 4]), 2), known(&[2, 1, 4, 3]));
        assert_eq!(byteorder(known(&[6]), 2), known(&[6]));
        assert_eq!(byteorder(vec![Some(1), None], 2), [None, Some(1)]);
        assert_eq!(byteorder(known(&[1]), 0), known(&[1]));
    }
}
