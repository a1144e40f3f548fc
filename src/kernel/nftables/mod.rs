//! `nf_tables` over netlink: reads managed chains, ours and those of iptables-nft, and makes our table. Running nft(8) or
//! iptables-save(8) would take longer than the rest of an event.

mod expression;
pub mod found;
mod message;
pub(crate) mod set;

pub(crate) use found::found;

use super::Error;
use super::netlink::nla::bytes;
use super::netlink::socket::Socket;
use super::netlink::transaction::Request;
use crate::model::firewall::nft::Transaction;

/// The type, the flags and the body of each request of a transaction.
pub fn requests(transaction: &Transaction) -> Vec<(u16, u16, Vec<u8>)> {
    let mut requests = Vec::new();
    for Request { kind, flags, message } in transaction.0.iter().map(message::request) {
        requests.push((kind, flags, bytes(&message)));
    }
    requests
}

/// Makes all changes of the transaction, or none. The error names the command that the kernel refused.
///
/// `socket` is made where there is none, and stays open for as long as the caller has more to do: when one is closed, the
/// kernel waits until all that was deleted is freed, some ten milliseconds with a set (`nft_rcv_nl_event()`).
pub(crate) fn commit(transaction: &Transaction, socket: &mut Option<Socket>) -> Result<(), Error> {
    let mut open = match socket.take() {
        Some(open) => open,
        None => Socket::open_netfilter().map_err(Error::Open)?,
    };
    let requests: Vec<_> = transaction.0.iter().map(message::request).collect();
    open.transaction(&requests).map_err(|(index, source)| {
        let command = index.and_then(|index| transaction.0.get(index)).map(|command| format!("nft {command}"));
        let command = command.unwrap_or_else(|| "nft -f".to_owned());
        // Without privileges nf_tables could not have been read, and there would be no change.
        if source.is_permission() { Error::Owned { command } } else { Error::Change { command, source } }
    })?;
    // After a refusal there may be answers to be read yet.
    *socket = Some(open);
    Ok(())
}
