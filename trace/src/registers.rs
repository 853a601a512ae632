//! The registers that expressions load and compare, of which some bytes may not be known.

use std::ops::Range;

use hostport_nft::object::ExpressionObject;
use ipnet::IpNet;

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
pub(crate) struct Registers<'a> {
    bytes: [Option<u8>; 64],
    /// Where the client's address is, which is not known, and which of its bits were not masked away.
    client: Option<(usize, Vec<u8>)>,
    /// Where a number is that is made for each packet, and from which to which it may be.
    number: Option<(usize, Range<u32>)>,
    not_from: &'a [IpNet],
}

impl<'a> Registers<'a> {
    pub(crate) fn new(not_from: &'a [IpNet]) -> Self {
        Registers { bytes: [None; 64], client: None, number: None, not_from }
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
        let begin = Self::place(register).unwrap_or(self.bytes.len());
        (begin..begin.saturating_add(length.min(64)))
            .map(|at| self.bytes.get(at).copied().flatten())
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
        self.client = self.client.take().filter(|(at, mask)| {
            at.saturating_add(mask.len()) <= begin || begin.saturating_add(length) <= *at
        });
        self.number =
            self.number.take().filter(|(at, _)| *at + 4 <= begin || begin + length <= *at);
        let value = bytes.iter().copied().chain(std::iter::repeat(Some(0)));
        for (place, byte) in self.bytes.iter_mut().skip(begin).take(length).zip(value) {
            *place = byte;
        }
    }

    /// That a register has the client's address, or as many bytes of it.
    pub(crate) fn set_client(&mut self, register: Option<u32>, length: Option<u32>) {
        let mask = vec![u8::MAX; length.unwrap_or(0).min(16) as usize];
        self.client = Self::place(register).map(|begin| (begin, mask));
    }

    /// The attributes for the register, the modulus and the offset: NFTA_NG_* or NFTA_HASH_*.
    pub(crate) fn number(&mut self, expression: &ExpressionObject, attributes: [u16; 3]) {
        let [register, modulus, offset] = attributes.map(|kind| expression.number(kind));
        let offset = offset.unwrap_or(0);
        self.set(register, &[None; 4]);
        let numbers = offset..offset.saturating_add(modulus.unwrap_or(0));
        self.number = Self::place(register).map(|begin| (begin, numbers));
    }

    /// Whether a register has a number that is one of these keys, whichever it is.
    pub(crate) fn is_one_of<'k>(
        &self,
        register: Option<u32>,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> bool {
        let Some((_, numbers)) =
            self.number.as_ref().filter(|(at, _)| Self::place(register) == Some(*at))
        else {
            return false;
        };
        let number = |key: &[u8]| key.try_into().ok().map(u32::from_ne_bytes);
        let there = keys.filter_map(number).filter(|number| numbers.contains(number));
        there.count() == numbers.len()
    }

    /// Whether a register cannot have any of the values from one to another, since the client is in none of the
    /// networks that they are in.
    pub(crate) fn exclude(&self, register: Option<u32>, first: &[u8], last: &[u8]) -> bool {
        let Some(((at, mask), begin)) = self.client.as_ref().zip(Self::place(register)) else {
            return false;
        };
        let Some(skip) = at.checked_sub(begin) else { return false };
        let within = |net: &IpNet, value: &[u8]| {
            let (network, netmask) = octets(net);
            network.iter().zip(netmask).enumerate().all(|(at, (byte, needed))| {
                let compared = mask.get(at).zip(value.get(skip + at));
                needed == 0
                    || compared.is_some_and(|(mask, value)| {
                        mask & needed == needed && value & needed == *byte
                    })
            })
        };
        self.not_from.iter().any(|net| within(net, first) && within(net, last))
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
        let plain = expression.number(6).unwrap_or(0) == 0
            && xor.is_some_and(|xor| xor.iter().all(|byte| *byte == 0));
        let client = self
            .client
            .take()
            .filter(|(at, _)| plain && Some(*at) == Self::place(expression.number(1)));
        self.set(expression.number(2), &output);
        self.client = client.zip(Self::place(expression.number(2))).map(|((_, old), begin)| {
            let mask = old.iter().zip(mask.unwrap_or_default());
            (begin, mask.map(|(old, mask)| old & mask).collect())
        });
    }

    /// NFTA_CMP_SREG, _OP (`enum nft_cmp_ops`) and _DATA. The kernel compares bytes as memcmp(3) does.
    pub(crate) fn compare(&self, expression: &ExpressionObject) -> Matched {
        let (operation, value) = (expression.number(2)?, expression.value(3)?);
        let loaded = self.get(expression.number(1), value.len());
        // One byte that is known may be enough.
        if operation <= 1
            && (differs(&loaded, value) || self.exclude(expression.number(1), value, value))
        {
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
        let inside = match self.whole(expression.number(1), from.len()) {
            Some(loaded) => (from..=to).contains(&loaded.as_slice()),
            None if self.exclude(expression.number(1), from, to) => false,
            None => return None,
        };
        match expression.number(2)? {
            0 => Some(inside),
            1 => Some(!inside),
            _ => None,
        }
    }
}

/// The bytes of a network's address, and those of its mask.
fn octets(net: &IpNet) -> (Vec<u8>, Vec<u8>) {
    match net {
        IpNet::V4(net) => (net.network().octets().into(), net.netmask().octets().into()),
        IpNet::V6(net) => (net.network().octets().into(), net.netmask().octets().into()),
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
