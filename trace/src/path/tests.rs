//! Verdicts on small rulesets.

use super::*;
use crate::testing::{attribute, expression, packet};
use hostport_nft::ChainSnapshot;
use hostport_nft::object::{ExpressionObject, RuleObject, TableObject};

/// A table of the family ip, and its chains.
struct Table(&'static str, u64, Vec<(&'static str, ChainSnapshot)>);

fn base(kind: &str, hook: Hook, priority: i32, drops: bool) -> Option<BaseObject> {
    Some(BaseObject { kind: kind.to_owned(), hook: hook as u32, priority, drops })
}

fn chain(base: Option<BaseObject>, rules: Vec<Vec<ExpressionObject>>) -> ChainSnapshot {
    let rule = |(number, expressions): (usize, _)| RuleObject {
        table: String::new(),
        chain: "its own".to_owned(),
        handle: hostport_nft::Handle(number as u64 + 1),
        expressions,
    };
    ChainSnapshot { base, rules: rules.into_iter().enumerate().map(rule).collect() }
}

fn trace(tables: Vec<Table>) -> Trace {
    let mut snapshot = Snapshot::default();
    for Table(table, handle, chains) in tables {
        let table = table.to_owned();
        let object = TableObject {
            name: table.clone(),
            handle: hostport_nft::Handle(handle),
            dormant: false,
            owner: None,
            comment: String::new(),
        };
        snapshot.tables.insert((NfFamily::Ip, table.clone()), object);
        for (name, chain) in chains {
            let (table, name) = (table.clone(), name.to_owned());
            snapshot.chains.insert(ObjectId { family: NfFamily::Ip, table, name }, chain);
        }
    }
    Trace::new(snapshot, TableName::default(), |_| None)
}

/// `tcp dport PORT`, without the match of the protocol.
fn port(port: u16) -> [ExpressionObject; 2] {
    let [register, base, offset, length] = [1u32, 2, 2, 2].map(u32::to_be_bytes);
    let load = [(1, &register[..]), (2, &base), (3, &offset), (4, &length)];
    let value = attribute(1, &port.to_be_bytes());
    [expression("payload", &load), expression("cmp", &[(1, &register), (2, &[0; 4]), (3, &value)])]
}

/// `meta mark 1`.
fn mark() -> [ExpressionObject; 2] {
    let [register, key] = [1u32, 3].map(u32::to_be_bytes);
    let value = attribute(1, &1u32.to_ne_bytes());
    [
        expression("meta", &[(1, &register), (2, &key)]),
        expression("cmp", &[(1, &register), (2, &[0; 4]), (3, &value)]),
    ]
}

fn end(code: i32, chain: Option<&str>) -> ExpressionObject {
    let mut verdict = attribute(1, &code.to_be_bytes());
    verdict.extend(chain.map(|chain| attribute(2, chain.as_bytes())).unwrap_or_default());
    expression("immediate", &[(1, &[0; 4]), (2, &attribute(2, &verdict))])
}

fn rule(matches: [ExpressionObject; 2], last: ExpressionObject) -> Vec<ExpressionObject> {
    matches.into_iter().chain([last]).collect()
}

fn short(verdicts: Vec<Verdict>) -> Vec<(Effect, bool, String, String)> {
    let short = |v: Verdict| (v.effect, v.certain, v.chain, v.cause.to_string());
    verdicts.into_iter().map(short).collect()
}

#[test]
fn a_drop_is_certain_where_every_part_of_the_rule_is_known() {
    let of = |rules| {
        let forward = chain(base("filter", Hook::Forward, 0, false), rules);
        let mut trace = trace(vec![Table("f", 1, vec![("forward", forward)])]);
        short(trace.behind(&packet("0.0.0.0", "10.85.0.11")))
    };
    let drops = |certain, handle| {
        let cause = format!("the rule with handle {handle} in its own");
        vec![(Effect::DropsForwarded, certain, "forward".to_owned(), cause)]
    };
    // Behind the translation it goes to the container's port, not to 9000.
    assert_eq!(of(vec![rule(port(9000), end(0, None))]), []);
    assert_eq!(of(vec![rule(port(8080), end(0, None))]), drops(true, 1));
    assert_eq!(of(vec![rule(mark(), end(0, None))]), drops(false, 1));
    assert_eq!(of(vec![rule(mark(), end(1, None)), vec![end(0, None)]]), drops(false, 2));
    let answer = (Effect::DropsAnswer, true, "forward".to_owned(), drops(true, 2).remove(0).3);
    assert_eq!(of(vec![rule(port(8080), end(1, None)), vec![end(0, None)]]), [answer]);
}

#[test]
fn a_jump_comes_back_and_a_goto_does_not() {
    let of = |code| {
        let forward = base("filter", Hook::Forward, 0, true);
        let forward = chain(forward, vec![vec![end(code, Some("other"))], vec![end(1, None)]]);
        let chains = vec![("forward", forward), ("other", chain(None, Vec::new()))];
        short(trace(vec![Table("f", 1, chains)]).behind(&packet("0.0.0.0", "10.85.0.11")))
    };
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    assert_eq!(of(JUMP), []);
    let policy = (Effect::DropsForwarded, true, "forward".to_owned(), "its policy".to_owned());
    assert_eq!(of(GOTO), [policy]);
}

#[test]
fn of_two_translations_with_one_priority_the_younger_comes_first() {
    let of = |ours, theirs, endpoint: [u8; 4]| {
        let to = [
            expression("immediate", &[(1, &1u32.to_be_bytes()), (2, &attribute(1, &endpoint))]),
            expression("immediate", &[(1, &9u32.to_be_bytes()), (2, &attribute(1, &[31, 144]))]),
            expression(
                "nat",
                &[
                    (1, &1u32.to_be_bytes()),
                    (2, &2u32.to_be_bytes()),
                    (3, &1u32.to_be_bytes()),
                    (5, &9u32.to_be_bytes()),
                ],
            ),
        ];
        let nat = base("nat", Hook::Prerouting, OWN, false);
        let chains = vec![("nat", chain(nat, vec![to.to_vec()]))];
        let own = TableName::default();
        assert_eq!(own.as_str(), "hostport");
        let mut trace = trace(vec![Table("hostport", ours, vec![]), Table("o", theirs, chains)]);
        let verdicts = trace.before(&packet("0.0.0.0", "10.85.0.11"));
        verdicts.iter().map(|v| (v.effect, v.certain, v.to)).collect::<Vec<_>>()
    };
    let to = "10.85.0.12:8080".parse().ok();
    assert_eq!(of(1, 2, [10, 85, 0, 12]), [(Effect::Translates, true, to)]);
    assert_eq!(of(2, 1, [10, 85, 0, 12]), [(Effect::Translates, false, to)]);
    // One to the same container takes nothing away; who asks tells them apart.
    let to = "10.85.0.11:8080".parse().ok();
    assert_eq!(of(1, 2, [10, 85, 0, 11]), [(Effect::Translates, true, to)]);
}
