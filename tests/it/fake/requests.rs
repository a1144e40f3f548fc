//! What requests do: `net/ipv4/nexthop.c`, `fib_nl_newrule()` and `fib_nl_delrule()` of Linux, the packet filter.

use std::collections::BTreeSet;

use multihome::model::change::Change;
use multihome::model::firewall::nft::{Base, Command, FoundBase, FoundTable, Transaction};
use multihome::model::firewall::{self, Batch, Fingerprint, FoundChainRule};
use multihome::model::names::{Family, Weight};
use multihome::model::numbering::KERNEL;
use multihome::model::observed::Preference;
use multihome::model::routing::{
    Action, DefaultRoute, FoundRule, Member, NexthopKind, NexthopObject, Rule, Selector, Target,
};

use super::{EEXIST, EINVAL, ENETDOWN, ENODEV, ENOENT, ESRCH, Fake, Held, Via};

/// A base chain as it is asked for.
fn found_base(Base { kind, hook, priority }: Base) -> FoundBase {
    FoundBase { kind: kind.name().to_owned(), hook: hook as u32, priority, accepts: true }
}

/// What requests do.
impl Fake {
    pub(super) fn change(&mut self, change: &Change, protocol: u8) -> Result<(), i32> {
        match change {
            Change::LooseRpFilter(name) => match self.nics.get_mut(name) {
                Some(nic) => nic.strict_rp_filter = false,
                None => return Err(ENOENT),
            },
            // Devices of the fake do no ARP.
            Change::OwnArp(..) => return Err(ENOENT),
            Change::Prefer { address, is_preferred } => {
                let preference = if *is_preferred { Preference::Preferred } else { Preference::Deprecated };
                let held = self.lan6.iter_mut().find(|held| held.address == address.address).ok_or(ENOENT)?;
                held.preference = preference;
            }
            Change::IgnoreLinkdown(device, family) => {
                let nic = self.nics.values_mut().find(|nic| nic.index == device.index).ok_or(ENODEV)?;
                *(if *family == Family::V4 { &mut nic.ignores_linkdown } else { &mut nic.ignores_linkdown6 }) = true;
            }
            Change::DeviceGroup { device, group } => {
                self.nics.values_mut().find(|nic| nic.index == device.index).ok_or(ENODEV)?.group = *group;
            }
            Change::Firewall(batch) => self.restore(batch)?,
            Change::Nftables(transaction) => self.commit(transaction)?,
            Change::FlushConnections(family, flushed) => {
                self.tracked.retain(|(of, mark)| of != family || mark & flushed.mask != flushed.value);
            }
            // The fake knows neither the addresses of connections nor by which link they leave.
            Change::FlushPrefix(..) | Change::MarkConnections(_) => {}
            Change::HashPolicy(Family::V4, policy) => self.hash_policy = *policy,
            Change::HashPolicy(Family::V6, policy) => self.hash_policy6 = *policy,
            Change::Nexthop { id, next_hop } => {
                self.put_object(*id, protocol, NexthopKind::Single(next_hop.clone()))?;
            }
            Change::Group { id, members } => self.put_object(*id, protocol, NexthopKind::Group(members.clone()))?,
            Change::DeleteNexthop(id) => self.drop_objects(|object, _| object == *id),
            Change::Route(DefaultRoute { family: Family::V6, table, metric, target: Target::NextHops(next_hops) }) => {
                let hops = next_hops.iter().map(|hop| self.append_leg(*table, *metric, protocol, hop.clone()));
                hops.collect::<Vec<_>>().into_iter().try_for_each(present)?;
            }
            Change::Route(route) => {
                let via = match &route.target {
                    Target::Group(id) => Via::Nexthop(*id),
                    Target::NextHops(next_hops) => Via::NextHops(next_hops.clone()),
                };
                self.replace_route(Held::new(route.table, route.metric, protocol, via))?;
            }
            Change::DeleteRoute(route) => {
                match route.family {
                    Family::V4 => self.delete_route(route),
                    Family::V6 => self.delete_route6(route),
                }
                .or_else(gone)?;
            }
            Change::Rule(rule) => self.add_rule(rule.clone(), protocol),
            Change::KernelRule(rule) => self.add_rule(rule.clone(), KERNEL),
            Change::DeleteRule(rule) => {
                let at = self.rules.iter().position(|held| is_rule_deleted_by(held, rule, protocol));
                at.map(|at| self.rules.remove(at)).ok_or(ENOENT).map(drop).or_else(gone)?;
            }
        }
        Ok(())
    }

    /// `iptables-restore --noflush`: all of a batch or nothing.
    fn restore(&mut self, batch: &Batch) -> Result<(), i32> {
        let mut chains = self.firewall.tables.get(&batch.table).cloned().unwrap_or_default();
        for line in batch.text.lines() {
            let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let jump = |rule: &str| {
                let to = rule.strip_prefix("-j ").filter(|to| firewall::is_ours(to))?.to_owned();
                Some(FoundChainRule::Jump { to, handle: None })
            };
            match what {
                "-A" => {
                    let fingerprint = Fingerprint::find(rule.as_bytes()).map(FoundChainRule::Fingerprint);
                    let rule = fingerprint.or_else(|| jump(rule));
                    chains.entry(chain.to_owned()).or_default().push(rule.unwrap_or(FoundChainRule::Other));
                }
                "-D" => {
                    let rules = chains.get_mut(chain).ok_or(ENOENT)?;
                    let gone = jump(rule);
                    let at = rules.iter().position(|r| Some(r) == gone.as_ref()).ok_or(ENOENT)?;
                    rules.remove(at);
                }
                "-F" => chains.get_mut(chain).ok_or(ENOENT)?.clear(),
                "-X" => drop(chains.remove(chain).ok_or(ENOENT)?),
                _ => {
                    if let Some(chain) = what.strip_prefix(':') {
                        chains.insert(chain.to_owned(), Vec::new());
                    }
                }
            }
        }
        self.firewall.tables.insert(batch.table, chains);
        Ok(())
    }

    /// A batch of `nf_tables`: all of it or nothing.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), i32> {
        let mut table = self.firewall.nft.clone().ok_or(EINVAL)?;
        for command in &transaction.0 {
            match command {
                // Rules of sets are there as long as their sets are.
                Command::AddSet(_) => {}
                Command::AddTable => table.is_there = true,
                Command::DeleteTable => table = FoundTable::default(),
                Command::AddChain(name) => {
                    table.chains.entry(name.nft()).or_default();
                    table.bases.extend(name.base().map(|base| (name.nft(), found_base(base))));
                }
                Command::Flush(chain) => table.chains.get_mut(chain).ok_or(ENOENT)?.clear(),
                Command::AddRule(chain, rule) => {
                    let found = Fingerprint::find(rule.comment.as_bytes()).map(FoundChainRule::Fingerprint);
                    let rules = table.chains.get_mut(&chain.nft()).ok_or(ENOENT)?;
                    rules.push(found.unwrap_or(FoundChainRule::Other));
                }
                Command::DeleteChain(chain) => {
                    table.bases.remove(chain);
                    table.chains.remove(chain).ok_or(ENOENT)?;
                }
                Command::FlushSet(set) | Command::DeleteSet(set) => drop(table.prefixes.remove(&set.name)),
                Command::AddElements { set, elements, .. } => {
                    table.prefixes.insert(set.name.clone(), elements.clone());
                }
                // The fake's iptables is not nf_tables, and only `mhctl set` deletes elements.
                Command::Unhook { .. }
                | Command::FlushOld(..)
                | Command::DeleteOld(..)
                | Command::DeleteElements(..) => return Err(ENOENT),
            }
        }
        self.firewall.nft = Some(table);
        Ok(())
    }

    /// `RTM_NEWNEXTHOP` with REPLACE, whoever made what is there.
    pub fn put_object(&mut self, id: u32, protocol: u8, kind: NexthopKind) -> Result<(), i32> {
        if let NexthopKind::Single(next_hop) = &kind {
            let nic = self.nic(next_hop.device.index).ok_or(EINVAL)?;
            if !nic.carrier {
                return Err(ENETDOWN);
            }
            self.check_next_hop(next_hop)?;
        }
        let objects = self.nexthops.as_mut().ok_or(EINVAL)?;
        if let NexthopKind::Group(members) = &kind {
            let single = |m: &Member| matches!(objects.get(&m.id), Some(o) if matches!(o.kind, NexthopKind::Single(_)));
            let distinct: BTreeSet<_> = members.iter().map(|m| m.id).collect();
            // Before Linux 6.12 (`nh_check_attr_group()`).
            let heavy = members.iter().any(|m| m.weight > Weight::HEAVIEST_MEMBER);
            if members.is_empty() || distinct.len() != members.len() || !members.iter().all(single) || heavy {
                return Err(EINVAL);
            }
        }
        let group = matches!(kind, NexthopKind::Group(_));
        let mut object = NexthopObject { protocol, kind };
        if let Some(old) = objects.get(&id) {
            if group != matches!(old.kind, NexthopKind::Group(_)) {
                return Err(EINVAL);
            }
            if group {
                object.protocol = old.protocol;
            }
        }
        objects.insert(id, object);
        Ok(())
    }

    /// `RTM_NEWRULE` with CREATE and EXCL: after all of its priority. The protocol is not compared. A guard comes without
    /// EXCL, since its target is not compared either.
    pub fn add_rule(&mut self, mut rule: Rule, protocol: u8) {
        if self.forgets_ports {
            rule.selector = Selector { proto: None, sport: None, dport: None, dscp: None, ..rule.selector };
        }
        let is_guard = matches!(rule.action, Action::Goto(_));
        if is_guard || !self.rules.iter().any(|held| held.is_complete() && held.rule == rule) {
            self.push_rule(FoundRule { rule, protocol, more: None });
        }
    }

    /// As [`Self::add_rule`], but even if it is there already.
    pub fn push_rule(&mut self, rule: FoundRule) {
        let place = |held: &FoundRule| (held.rule.family, held.rule.priority);
        let at = self.rules.partition_point(|held| place(held) <= place(&rule));
        self.rules.insert(at, rule);
    }
}

/// `rule_find()`: what is not given is not compared.
fn is_rule_deleted_by(held: &FoundRule, wanted: &Rule, protocol: u8) -> bool {
    fn given<T: PartialEq>(wanted: Option<&T>, held: Option<&T>) -> bool {
        wanted.is_none() || wanted == held
    }
    let action = match (wanted.action, held.rule.action) {
        (
            Action::Lookup { table, suppress_prefixlength: suppress },
            Action::Lookup { table: held, suppress_prefixlength },
        ) => table == held && given(suppress.as_ref(), suppress_prefixlength.as_ref()),
        (Action::Unreachable, Action::Unreachable) => held.is_complete(),
        (Action::Goto(_), Action::Goto(_)) => true,
        _ => false,
    };
    let (w, h) = (&wanted.selector, &held.rule.selector);
    action
        && held.protocol == protocol
        && held.rule.family == wanted.family
        && held.rule.priority == wanted.priority
        && given(w.from.as_ref(), h.from.as_ref())
        && given(w.to.as_ref(), h.to.as_ref())
        && given(w.iif.as_ref(), h.iif.as_ref())
        && given(w.fwmark.as_ref(), h.fwmark.as_ref())
        && given(w.uid.as_ref(), h.uid.as_ref())
        && given(w.proto.as_ref(), h.proto.as_ref())
        && given(w.sport.as_ref(), h.sport.as_ref())
        && given(w.dport.as_ref(), h.dport.as_ref())
        && given(w.dscp.as_ref(), h.dscp.as_ref())
}

/// As the real door has it: what is there already is a success.
fn present(added: Result<(), i32>) -> Result<(), i32> {
    added.or_else(|error| if error == EEXIST { Ok(()) } else { Err(error) })
}

/// As the real door has it: what is gone already is a success.
fn gone(error: i32) -> Result<(), i32> {
    if [ENOENT, ESRCH].contains(&error) { Ok(()) } else { Err(error) }
}
