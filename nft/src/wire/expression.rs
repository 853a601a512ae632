//! Statements as nf_tables expressions, the small programs that the kernel runs for each packet.
//!
//! A field is loaded into a register; fields of a joined key lie one behind the other, each padded to
//! 32 bits. Names and numbers are those of `linux/netfilter/nf_tables.h`.

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

use crate::model::{Counter, Family};
use crate::ruleset::rule::{Field, Rule, Statement};
use crate::ruleset::set::SetName;

/// One expression in a rule's list.
pub(crate) type Expression = ListAttribute<ExpressionAttribute>;

const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;

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
/// `linux/netfilter/nf_conntrack_common.h`, in host byte order in the register.
const IPS_SRC_NAT: u32 = 1 << 4;
const IPS_DST_NAT: u32 = 1 << 5;

const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_NAT_DNAT: u32 = 1;

const NFTA_EXPR_DATA: u16 = 2;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// `linux/netfilter.h`.
const NF_DROP: u32 = 0;

/// The loopback device is the first link of every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// The expressions of a rule.
pub(crate) fn of_rule(rule: &Rule) -> Vec<Expression> {
    let mut program = Vec::new();
    for statement in &rule.0 {
        append(&mut program, statement);
    }
    program
}

fn append(program: &mut Vec<Expression>, statement: &Statement) {
    match statement {
        Statement::LocalDestination => {
            program.push(other(
                "fib",
                vec![
                    number(NFTA_FIB_DREG, register(0).into()),
                    number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
                    number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
                ],
            ));
            program.push(compare(Operator::Equal, &RTN_LOCAL.to_ne_bytes()));
        }
        Statement::Lookup { fields, set } => {
            load_joined(program, fields);
            program.push(lookup(*set, None));
        }
        Statement::OnlyDestinationTranslated => {
            program.push(other(
                "ct",
                vec![number(NFTA_CT_DREG, register(0).into()), number(NFTA_CT_KEY, NFT_CT_STATUS)],
            ));
            program.push(mask(&(IPS_SRC_NAT | IPS_DST_NAT).to_ne_bytes()));
            program.push(compare(Operator::Equal, &IPS_DST_NAT.to_ne_bytes()));
        }
        Statement::NotLoopbackLink(link) => {
            load(program, *link, 0);
            program.push(compare(Operator::NotEqual, &LOOPBACK_IFINDEX.to_ne_bytes()));
        }
        Statement::LoopbackAddress(address) => {
            // A /8 is the address's first byte, so only that is loaded.
            program.push(payload(NFT_PAYLOAD_NETWORK_HEADER, address_offset(*address), 1, 0));
            program.push(compare(Operator::Equal, &[127]));
        }
        Statement::Dnat { family, fields, map } => {
            load_joined(program, fields);
            program.push(lookup(*map, Some(register(0))));
            program.push(dnat(*family));
        }
        Statement::Masquerade => program.push(other("masq", vec![])),
        Statement::Counter => program.push(counter(None).into()),
        Statement::Drop => program.push(verdict(Verdict::Other(NF_DROP), None)),
        Statement::Return => program.push(verdict(Verdict::Return, None)),
        Statement::Goto(chain) => program.push(verdict(Verdict::Goto, Some(chain))),
    }
}

/// A counter that begins with the values, or at zero.
fn counter(value: Option<Counter>) -> Expressions {
    let attributes = value
        .map(|Counter { packets, bytes }| {
            vec![
                DefaultNla::new(NFTA_COUNTER_BYTES, bytes.to_be_bytes().to_vec()),
                DefaultNla::new(NFTA_COUNTER_PACKETS, packets.to_be_bytes().to_vec()),
            ]
        })
        .unwrap_or_default();
    Expressions::Other { expression_type: "counter".to_owned(), attributes }
}

/// A counter as the value of NFTA_SET_EXPR or NFTA_SET_ELEM_EXPR: a name and data, without the list
/// (NFTA_SET_EXPRESSIONS) that kernels before 5.11 do not know.
pub(crate) fn counter_value(value: Option<Counter>) -> Vec<u8> {
    let data = counter(value);
    let attributes =
        [ExpressionAttribute::Name("counter".to_owned()), ExpressionAttribute::Data(data)];
    let mut bytes = vec![0; attributes.as_slice().buffer_len()];
    attributes.as_slice().emit(&mut bytes);
    bytes
}

/// Reads an expression's attributes; none if it is not a counter.
pub(crate) fn counter_of(expression: &[u8]) -> Option<Counter> {
    let data = NlasIterator::new(expression).flatten().find(|a| a.kind() == NFTA_EXPR_DATA)?;
    let mut counter = Counter::default();
    for attribute in NlasIterator::new(data.value()).flatten() {
        let number = || attribute.value().try_into().ok().map(u64::from_be_bytes);
        match attribute.kind() {
            NFTA_COUNTER_BYTES => counter.bytes = number()?,
            NFTA_COUNTER_PACKETS => counter.packets = number()?,
            _ => {}
        }
    }
    Some(counter)
}

/// The register that begins `words` 32-bit words into the register file.
///
/// The kernel numbers the same memory twice: NFT_REG_1 to NFT_REG_4 in steps of 16 bytes, and
/// NFT_REG32_00 to NFT_REG32_15 in steps of 4. nft names a field by the former where it can.
fn register(words: u32) -> Register {
    if words.is_multiple_of(4) {
        Register::from(u32::from(Register::Reg1) + words / 4)
    } else {
        Register::from(u32::from(Register::Reg32_00) + words)
    }
}

fn load_joined(program: &mut Vec<Expression>, fields: &[Field]) {
    let mut words = 0;
    for field in fields {
        load(program, *field, words);
        words += field_words(*field);
    }
}

/// How many 32-bit words a field takes in a joined key.
fn field_words(field: Field) -> u32 {
    match field {
        Field::Saddr(family) | Field::Daddr(family) | Field::Wildcard(family) => {
            address_length(family) / 4
        }
        Field::Dport | Field::L4proto | Field::Iif | Field::Oif => 1,
    }
}

fn load(program: &mut Vec<Expression>, field: Field, words: u32) {
    match field {
        Field::Saddr(family) | Field::Daddr(family) => program.push(payload(
            NFT_PAYLOAD_NETWORK_HEADER,
            address_offset(field),
            address_length(family),
            words,
        )),
        Field::Wildcard(family) => {
            load(program, Field::Daddr(family), words);
            program.push(mask_at(words, &vec![0; address_length(family) as usize]));
        }
        // The ports of TCP, UDP and SCTP stand in the same place.
        Field::Dport => program.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, words)),
        Field::L4proto => program.push(meta(MetaKey::L4Proto, words)),
        Field::Iif => program.push(meta(MetaKey::Iif, words)),
        Field::Oif => program.push(meta(MetaKey::Oif, words)),
    }
}

fn address_length(family: Family) -> u32 {
    match family {
        Family::Ip => 4,
        Family::Ip6 => 16,
    }
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

fn payload(base: u32, offset: u32, length: u32, words: u32) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register(words)),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn meta(key: MetaKey, words: u32) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register(words))]).into()
}

fn compare(operator: Operator, value: &[u8]) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(register(0)),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
    .into()
}

fn mask(value: &[u8]) -> Expression {
    mask_at(0, value)
}

fn mask_at(words: u32, value: &[u8]) -> Expression {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register(words)),
        Bitwise::DestinationRegister(register(words)),
        Bitwise::Length(value.len() as u32),
        Bitwise::Mask(DataAttribute::Value(value.to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; value.len()])),
    ])
    .into()
}

fn lookup(set: SetName, destination: Option<Register>) -> Expression {
    let mut attributes = vec![Lookup::Set(set.to_string()), Lookup::SourceRegister(register(0))];
    attributes.extend(destination.map(Lookup::DestinationRegister));
    Expressions::Lookup(attributes).into()
}

/// DNAT to what the lookup left in the registers: the address, and behind it the port.
fn dnat(family: Family) -> Expression {
    let port = register(address_length(family) / 4);
    other(
        "nat",
        vec![
            number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
            number(NFTA_NAT_FAMILY, u8::from(crate::wire::message::protocol_family(family)).into()),
            number(NFTA_NAT_REG_ADDR_MIN, register(0).into()),
            number(NFTA_NAT_REG_PROTO_MIN, port.into()),
        ],
    )
}

fn verdict(code: Verdict, chain: Option<&str>) -> Expression {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|name| VerdictAttribute::Chain(name.to_owned())));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
    .into()
}

fn other(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

/// A 32-bit attribute; nf_tables has them all in network byte order.
fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
