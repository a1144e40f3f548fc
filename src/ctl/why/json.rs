//! A report for programs.

use serde_json::{Value, json};

use super::Report;
use super::text::outcome;
use crate::ctl::lookup::{Answer, End, FibRoute, Outcome, Refusal, Step, Walk, errno_text, rule_text};

/// The report as one object.
pub(super) fn report(report: &Report<'_>) -> Value {
    let packet = report.packet;
    json!({
        "packet": {
            "to": packet.to,
            "from": packet.from,
            "iif": packet.iif.as_ref().map(|(_, name)| name.as_str()),
            "proto": packet.proto,
            "sport": packet.sport,
            "dport": packet.dport,
            "mark": packet.mark,
            "uid": packet.uid,
            "dscp": packet.dscp,
        },
        "sets": report.memberships,
        "if_down": report.without.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "steps": report.walk.steps.iter().map(|s| step(s, report)).collect::<Vec<_>>(),
        "end": end(&report.walk, report),
        "bound": report.bound.as_ref().map(|(source, walk)| json!({ "source": source, "end": end(walk, report) })),
        "kernel": match &report.kernel {
            Ok(answer) => kernel(answer),
            Err(why) => json!({ "asked": false, "reason": why }),
        },
        "difference": report.difference,
        "silent_gateways": report.silence.gateways,
        "silent_passed_over": report.silence.passed_over,
    })
}

fn step(step: &Step<'_>, report: &Report<'_>) -> Value {
    json!({
        "priority": step.found.rule.priority,
        "rule": rule_text(step.found, &report.naming.tables),
        "protocol": step.found.protocol,
        "policy": report.naming.purpose(step.found),
        "matches": match step.outcome {
            Outcome::Miss(_) => json!(false),
            Outcome::Unknown => Value::Null,
            _ => json!(true),
        },
        "decides": step.outcome == Outcome::Decides,
        "outcome": outcome(step),
    })
}

fn end(walk: &Walk<'_>, report: &Report<'_>) -> Value {
    match &walk.end {
        End::Route(route) => way(route, report),
        End::Refused { how, .. } => json!({ "kind": match how {
            Refusal::Blackhole => "blackhole",
            Refusal::Unreachable => "unreachable",
            Refusal::Prohibit => "prohibit",
        } }),
        End::NoWay => json!({ "kind": "no-way" }),
        End::Unknown(why) => json!({ "kind": "unknown", "reason": why }),
    }
}

fn way(route: &FibRoute, report: &Report<'_>) -> Value {
    let next_hops = report.silence.shares(route).into_iter().map(|(next_hop, share)| {
        json!({
            "link": report.naming.links.get(&next_hop.name).map(ToString::to_string),
            "interface": next_hop.name.as_str(),
            "gateway": next_hop.hop.gateway,
            "share_percent": share,
        })
    });
    json!({
        "kind": if route.delivers(report.packet) { "local" } else { "route" },
        "table": route.table.get(),
        "table_name": report.naming.tables.get(&route.table),
        "prefix": route.prefix.to_string(),
        "metric": route.metric,
        "nexthop": route.nexthop,
        "legs": next_hops.collect::<Vec<_>>(),
    })
}

fn kernel(answer: &Answer) -> Value {
    match answer {
        Answer::Refused(errno) => json!({ "asked": true, "errno": errno, "error": errno_text(*errno) }),
        Answer::Way { table, prefix_len, local, name, gateway, source, .. } => json!({
            "asked": true,
            "table": table.get(),
            "prefix_length": prefix_len,
            "local": local,
            "interface": name.as_str(),
            "gateway": gateway,
            "source": source,
        }),
    }
}
