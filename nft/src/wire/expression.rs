//! Statements as nf_tables expressions, the small programs that the kernel runs for each packet.
//!
//! A field is loaded into a register; fields of a joined key lie one behind the other, each padded to
//! 32 bits. Names and numbers are those of `linux/netfilter/nf_tables.h`.

use hostport_netlink::attribute;

use super::constants::*;
use super::message::{push_number, push_value};
use crate::model::{Counter, Family, NfFamily};
use crate::ruleset::rule::{Field, Rule, Statement};
use crate::ruleset::set::{DataType, SetName};

/// `enum nft_registers`: NFT_REG_VERDICT, NFT_REG_1 and NFT_REG32_00.
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_REG32_00: u32 = 8;
/// `enum nft_verdicts`
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFT_META_IIF: u32 = 4;
const NFT_META_OIF: u32 = 5;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_META_L4PROTO: u32 = 16;

const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;

const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;

const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;

const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;

const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
/// `linux/rtnetlink.h`, in host byte order in the register.
const RTN_LOCAL: u32 = 2;

const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFT_CT_STATUS: u32 = 2;
const NFT_CT_PROTOCOL: u32 = 10;
/// `linux/netfilter/nf_conntrack_common.h`, in host byte order in the register.
const IPS_SRC_NAT: u32 = 1 << 4;
const IPS_DST_NAT: u32 = 1 << 5;

const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_NAT_DNAT: u32 = 1;

const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// The loopback device is the first link of every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// The list of a rule's expressions (NFTA_RULE_EXPRESSIONS), as it grows.
type Program = Vec<u8>;

/// Appends the expressions of a rule.
pub(crate) fn push_rule(program: &mut Program, rule: &Rule) {
    for statement in &rule.0 {
        append(program, statement);
    }
}

fn append(program: &mut Program, statement: &Statement) {
    match statement {
        Statement::LocalDestination => {
            push(program, "fib", |data| {
                push_number(data, NFTA_FIB_DREG, register(0));
                push_number(data, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                push_number(data, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
            });
            compare(program, NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes());
        }
        Statement::Lookup { fields, set } => {
            load_joined(program, fields);
            lookup(program, *set, None, false);
        }
        Statement::NoLookup { fields, set } => {
            load_joined(program, fields);
            lookup(program, *set, None, true);
        }
        Statement::OnlyDestinationTranslated => {
            conntrack(program, NFT_CT_STATUS, 0);
            mask(program, 0, &(IPS_SRC_NAT | IPS_DST_NAT).to_ne_bytes());
            compare(program, NFT_CMP_EQ, &IPS_DST_NAT.to_ne_bytes());
        }
        Statement::NotLoopbackLink(link) => {
            load(program, *link, 0);
            compare(program, NFT_CMP_NEQ, &LOOPBACK_IFINDEX.to_ne_bytes());
        }
        Statement::LoopbackAddress(address) => {
            // A /8 is the address's first byte, so only that is loaded.
            payload(program, NFT_PAYLOAD_NETWORK_HEADER, address_offset(*address), 1, 0);
            compare(program, NFT_CMP_EQ, &[127]);
        }
        Statement::Dnat { family, fields, map } => {
            load_joined(program, fields);
            lookup(program, *map, Some(register(0)), false);
            dnat(program, *family);
        }
        Statement::Masquerade => push(program, "masq", |_| {}),
        Statement::Counter => push(program, "counter", |_| {}),
        Statement::Drop => verdict(program, NF_DROP, None),
        Statement::Return => verdict(program, NFT_RETURN as u32, None),
        Statement::Goto(chain) => verdict(program, NFT_GOTO as u32, Some(chain)),
    }
}

/// Appends an expression: its name and its attributes.
fn push(program: &mut Program, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    attribute::nest(program, NFTA_LIST_ELEM, |expression| named(expression, name, fill));
}

fn named(expression: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    attribute::push_text(expression, NFTA_EXPR_NAME, name);
    attribute::nest(expression, NFTA_EXPR_DATA, fill);
}

/// Appends a counter that begins with the values, or at zero, as the value of NFTA_SET_EXPR or
/// NFTA_SET_ELEM_EXPR: without the list (NFTA_SET_EXPRESSIONS) that kernels before 5.11 do not know.
pub(crate) fn push_counter(expression: &mut Vec<u8>, value: Option<Counter>) {
    named(expression, "counter", |data| {
        if let Some(Counter { packets, bytes }) = value {
            attribute::push(data, NFTA_COUNTER_BYTES, &bytes.to_be_bytes());
            attribute::push(data, NFTA_COUNTER_PACKETS, &packets.to_be_bytes());
        }
    });
}

/// Reads an expression's attributes; none if it is not a counter.
pub(crate) fn counter_of(expression: &[u8]) -> Option<Counter> {
    let data = attribute::find(expression, NFTA_EXPR_DATA).ok()??;
    let mut counter = Counter::default();
    for (kind, value) in attribute::all(data).flatten() {
        let number = || value.try_into().ok().map(u64::from_be_bytes);
        match kind {
            NFTA_COUNTER_BYTES => counter.bytes = number()?,
            NFTA_COUNTER_PACKETS => counter.packets = number()?,
            _ => {}
        }
    }
    Some(counter)
}

/// Whether an expression lets only some packets go on.
pub(crate) fn is_limit(expression: &[u8]) -> bool {
    let name = attribute::find(expression, NFTA_EXPR_NAME);
    matches!(name, Ok(Some(b"limit\0" | b"quota\0" | b"connlimit\0")))
}

/// The register that begins `words` 32-bit words into the register file.
///
/// The kernel numbers the same memory twice: NFT_REG_1 to NFT_REG_4 in steps of 16 bytes, and
/// NFT_REG32_00 to NFT_REG32_15 in steps of 4. nft names a field by the former where it can.
fn register(words: u32) -> u32 {
    if words.is_multiple_of(4) { NFT_REG_1 + words / 4 } else { NFT_REG32_00 + words }
}

fn load_joined(program: &mut Program, fields: &[Field]) {
    let mut words = 0;
    for field in fields {
        words += load(program, *field, words);
    }
}

/// Loads a field; returns how many 32-bit words it takes in a joined key.
fn load(program: &mut Program, field: Field, words: u32) -> u32 {
    match field {
        Field::Saddr(family) | Field::Daddr(family) => {
            let (offset, length) = (address_offset(field), address_length(family));
            payload(program, NFT_PAYLOAD_NETWORK_HEADER, offset, length, words);
            return length / 4;
        }
        Field::Wildcard(family) => {
            let taken = load(program, Field::Daddr(family), words);
            mask(program, words, &vec![0; address_length(family) as usize]);
            return taken;
        }
        // The ports of TCP, UDP and SCTP stand in the same place.
        Field::Dport => payload(program, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, words),
        Field::L4proto => meta(program, NFT_META_L4PROTO, words),
        Field::CtProtocol => conntrack(program, NFT_CT_PROTOCOL, words),
        Field::Iif => meta(program, NFT_META_IIF, words),
        Field::Oif => meta(program, NFT_META_OIF, words),
        Field::Iifname | Field::Oifname => {
            let key = if field == Field::Iifname { NFT_META_IIFNAME } else { NFT_META_OIFNAME };
            meta(program, key, words);
            return DataType::Ifname.length() / 4;
        }
    }
    1
}

fn address_length(family: Family) -> u32 {
    DataType::address(family).length()
}

/// The offset of an address in the network header: RFC 791 section 3.1, RFC 8200 section 3.
fn address_offset(field: Field) -> u32 {
    match field {
        Field::Saddr(Family::Ip) => 12,
        Field::Saddr(Family::Ip6) => 8,
        Field::Daddr(Family::Ip6) | Field::Wildcard(Family::Ip6) => 24,
        _ => 16,
    }
}

fn payload(program: &mut Program, base: u32, offset: u32, length: u32, words: u32) {
    push(program, "payload", |data| {
        push_number(data, NFTA_PAYLOAD_DREG, register(words));
        push_number(data, NFTA_PAYLOAD_BASE, base);
        push_number(data, NFTA_PAYLOAD_OFFSET, offset);
        push_number(data, NFTA_PAYLOAD_LEN, length);
    });
}

fn meta(program: &mut Program, key: u32, words: u32) {
    push(program, "meta", |data| {
        push_number(data, NFTA_META_KEY, key);
        push_number(data, NFTA_META_DREG, register(words));
    });
}

fn conntrack(program: &mut Program, key: u32, words: u32) {
    push(program, "ct", |data| {
        push_number(data, NFTA_CT_DREG, register(words));
        push_number(data, NFTA_CT_KEY, key);
    });
}

fn compare(program: &mut Program, operator: u32, value: &[u8]) {
    push(program, "cmp", |data| {
        push_number(data, NFTA_CMP_SREG, register(0));
        push_number(data, NFTA_CMP_OP, operator);
        push_value(data, NFTA_CMP_DATA, value);
    });
}

fn mask(program: &mut Program, words: u32, value: &[u8]) {
    push(program, "bitwise", |data| {
        push_number(data, NFTA_BITWISE_SREG, register(words));
        push_number(data, NFTA_BITWISE_DREG, register(words));
        push_number(data, NFTA_BITWISE_LEN, value.len() as u32);
        push_value(data, NFTA_BITWISE_MASK, value);
        push_value(data, NFTA_BITWISE_XOR, &vec![0; value.len()]);
    });
}

fn lookup(program: &mut Program, set: SetName, destination: Option<u32>, inverted: bool) {
    push(program, "lookup", |data| {
        attribute::push_text(data, NFTA_LOOKUP_SET, set.as_str());
        push_number(data, NFTA_LOOKUP_SREG, register(0));
        if let Some(register) = destination {
            push_number(data, NFTA_LOOKUP_DREG, register);
        }
        if inverted {
            push_number(data, NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        }
    });
}

/// DNAT to what the lookup left in the registers: the address, and behind it the port.
fn dnat(program: &mut Program, family: Family) {
    push(program, "nat", |data| {
        push_number(data, NFTA_NAT_TYPE, NFT_NAT_DNAT);
        push_number(data, NFTA_NAT_FAMILY, NfFamily::from(family) as u32);
        push_number(data, NFTA_NAT_REG_ADDR_MIN, register(0));
        push_number(data, NFTA_NAT_REG_PROTO_MIN, register(address_length(family) / 4));
    });
}

fn verdict(program: &mut Program, code: u32, chain: Option<&str>) {
    push(program, "immediate", |data| {
        push_number(data, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
        attribute::nest(data, NFTA_IMMEDIATE_DATA, |data| {
            attribute::nest(data, NFTA_DATA_VERDICT, |verdict| {
                push_number(verdict, NFTA_VERDICT_CODE, code);
                if let Some(chain) = chain {
                    attribute::push_text(verdict, NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    });
}
