//! What expressions make of the values in registers, of which some bytes may not be known.

use std::net::{IpAddr, SocketAddr};

use hostport_nft::Family;
use hostport_nft::object::{DataObject, data, field, number};

use crate::packet::Passing;

/// Whether a step of a rule lets the packet go on to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matched {
    Yes,
    No,
    /// That cannot be told.
    Unknown,
}

impl Matched {
    pub(crate) fn certain(matched: bool) -> Self {
        if matched { Matched::Yes } else { Matched::No }
    }
}

/// Bytes of which some are not known.
pub(crate) type Bytes = Vec<Option<u8>>;

pub(crate) fn known(bytes: &[u8]) -> Bytes {
    bytes.iter().copied().map(Some).collect()
}

/// The registers that a rule works with: 64 bytes, numbered twice: as four of 16 bytes (NFT_REG_1 on)
/// and as 16 of 4 (NFT_REG32_00 on).
#[derive(Debug, Clone)]
pub(crate) struct Registers([Option<u8>; 64]);

impl Registers {
    pub(crate) fn new() -> Self {
        Registers([None; 64])
    }

    /// Where a register's bytes begin; none for the verdict's and for what is no register.
    fn place(register: u32) -> Option<usize> {
        match register {
            1..=4 => Some((register as usize - 1) * 16),
            8..=23 => Some((register as usize - 8) * 4),
            _ => None,
        }
    }

    pub(crate) fn get(&self, register: u32, length: usize) -> Bytes {
        let begin = Self::place(register).unwrap_or(self.0.len());
        (begin..begin.saturating_add(length.min(64)))
            .map(|at| self.0.get(at).copied().flatten())
            .collect()
    }

    /// Stores bytes, and zeros up to the end of their last 32-bit word, as the kernel does.
    pub(crate) fn set(&mut self, register: u32, bytes: &[Option<u8>]) {
        let Some(begin) = Self::place(register) else { return };
        let length = bytes.len().next_multiple_of(4);
        let value = bytes.iter().copied().chain(std::iter::repeat(Some(0)));
        for (place, byte) in self.0.iter_mut().skip(begin).take(length).zip(value) {
            *place = byte;
        }
    }

    pub(crate) fn set_known(&mut self, register: u32, bytes: &[u8]) {
        self.set(register, &known(bytes));
    }
}

/// `fib`: only the type of the destination is known, and that there is a way back to the source.
pub(crate) fn fib(bytes: &[u8], packet: &Passing) -> Bytes {
    const OUT_LINK: u32 = 1;
    const ADDRESS_TYPE: u32 = 3;
    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 1 << 1;
    const OF_LINK: u32 = 1 << 3 | 1 << 4;
    const PRESENT: u32 = 1 << 5;
    let flags = number(bytes, 3).unwrap_or(0);
    match (number(bytes, 2), flags & (DESTINATION | SOURCE), packet.way_back()) {
        // An address of this host may be another link's.
        (Some(ADDRESS_TYPE), DESTINATION, _) if !packet.local || flags & OF_LINK == 0 => {
            packet.destination_type().to_ne_bytes().map(Some).to_vec()
        }
        (Some(OUT_LINK), SOURCE, Some(_)) if flags & PRESENT != 0 => vec![Some(1)],
        (Some(OUT_LINK), SOURCE, Some(link)) => link.to_ne_bytes().map(Some).to_vec(),
        _ => vec![None; 16],
    }
}

/// `nft_byteorder_eval`: numbers of a size turned from the host's order to the network's, or back. What is
/// less than one number stays as it is, such as a protocol, for which nft writes this too.
pub(crate) fn byteorder(value: &[Option<u8>], size: usize) -> Bytes {
    let mut value = value.to_vec();
    if cfg!(target_endian = "little") {
        value.chunks_exact_mut(size.max(1)).for_each(<[_]>::reverse);
    }
    value
}

/// Mask and xor; a byte that is masked away is known, whatever it was.
pub(crate) fn bitwise(bytes: &[u8], registers: &mut Registers) {
    let value = |kind| match field(bytes, kind).map(data) {
        Some(DataObject::Value(value)) => Some(value),
        _ => None,
    };
    let length = (number(bytes, 3).unwrap_or(0) as usize).min(64);
    let (source, destination) = (number(bytes, 1).unwrap_or(0), number(bytes, 2).unwrap_or(0));
    let input = registers.get(source, length);
    // NFTA_BITWISE_OP: 0 is mask and xor; shifts and the like are not followed.
    let output = match (number(bytes, 6).unwrap_or(0), value(4), value(5)) {
        (0, Some(mask), Some(xor)) => input
            .iter()
            .zip(mask.iter().zip(&xor))
            .map(|(byte, (mask, xor))| match (byte, mask) {
                (_, 0) => Some(*xor),
                (Some(byte), mask) => Some(byte & mask ^ xor),
                (None, _) => None,
            })
            .collect(),
        _ => vec![None; length],
    };
    registers.set(destination, &output);
}

/// `enum nft_cmp_ops`, on bytes as memcmp(3) has them.
pub(crate) fn compare(bytes: &[u8], registers: &Registers) -> Matched {
    let Some(DataObject::Value(value)) = field(bytes, 3).map(data) else {
        return Matched::Unknown;
    };
    let loaded = registers.get(number(bytes, 1).unwrap_or(0), value.len());
    let operation = number(bytes, 2).unwrap_or(u32::MAX);
    let all: Option<Vec<u8>> = loaded.iter().copied().collect();
    let Some(all) = all else {
        let differs = differs(&loaded, &value);
        return match operation {
            0 if differs => Matched::No,
            1 if differs => Matched::Yes,
            _ => Matched::Unknown,
        };
    };
    match operation {
        0 => Matched::certain(all == value),
        1 => Matched::certain(all != value),
        2 => Matched::certain(all < value),
        3 => Matched::certain(all <= value),
        4 => Matched::certain(all > value),
        5 => Matched::certain(all >= value),
        _ => Matched::Unknown,
    }
}

/// Whether a byte that is known is another one.
pub(crate) fn differs(loaded: &[Option<u8>], value: &[u8]) -> bool {
    loaded.iter().zip(value).any(|(loaded, byte)| loaded.is_some_and(|loaded| loaded != *byte))
}

pub(crate) fn range(bytes: &[u8], registers: &Registers) -> Matched {
    let value = |kind| match field(bytes, kind).map(data) {
        Some(DataObject::Value(value)) => Some(value),
        _ => None,
    };
    let (Some(from), Some(to)) = (value(3), value(4)) else { return Matched::Unknown };
    let loaded = registers.get(number(bytes, 1).unwrap_or(0), from.len());
    let Some(loaded) = loaded.into_iter().collect::<Option<Vec<u8>>>() else {
        return Matched::Unknown;
    };
    let inside = from <= loaded && loaded <= to;
    match number(bytes, 2) {
        Some(0) => Matched::certain(inside),
        Some(1) => Matched::certain(!inside),
        _ => Matched::Unknown,
    }
}

/// NFTA_NAT_REG_ADDR_MIN and NFTA_NAT_REG_PROTO_MIN; without a port, the packet's own stays. None for a
/// range (NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_PROTO_MAX), and for what is not known.
pub(crate) fn nat_destination(
    bytes: &[u8],
    packet: &Passing,
    registers: &Registers,
) -> Option<SocketAddr> {
    let known =
        |register, length| registers.get(register, length).into_iter().collect::<Option<Vec<u8>>>();
    let one = |min, max| match (number(bytes, min), number(bytes, max)) {
        (Some(min), Some(max)) if min != max => None,
        (min, _) => min,
    };
    let address = one(3, 4)?;
    let ip: IpAddr = match packet.family {
        Family::Ip => <[u8; 4]>::try_from(known(address, 4)?).ok()?.into(),
        Family::Ip6 => <[u8; 16]>::try_from(known(address, 16)?).ok()?.into(),
    };
    let port = match (number(bytes, 5), one(5, 6)) {
        (None, _) => packet.port,
        (Some(_), register) => u16::from_be_bytes(known(register?, 2)?.try_into().ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn whole_numbers_change_their_byte_order_and_less_than_one_does_not() {
        let known = |bytes: &[u8]| bytes.iter().copied().map(Some).collect::<Bytes>();
        assert_eq!(byteorder(&known(&[1, 2, 3, 4]), 4), known(&[4, 3, 2, 1]));
        assert_eq!(byteorder(&known(&[1, 2, 3, 4]), 2), known(&[2, 1, 4, 3]));
        assert_eq!(byteorder(&known(&[6]), 2), known(&[6]));
        assert_eq!(byteorder(&[Some(1), None], 2), [None, Some(1)]);
        assert_eq!(byteorder(&known(&[1]), 0), known(&[1]));
    }
}
