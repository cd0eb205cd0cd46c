//! The pages of checkpoints.

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use synod_coordination_core::{PageId, Zxid};

use super::{Endpoint, EndpointError, Epoch, reads, revision};

/// How many keys one listing returns.
const LISTED_KEYS: i64 = 1024;

/// What came of replacing the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It was replaced, at this revision.
    Done(i64),
    /// It is not the one that was expected. Nothing was done.
    Changed,
    /// The pod does not lead any more. Nothing was done.
    NotLeading,
}

impl Endpoint {
    /// Replaces the manifest that was written at the revision `expected`; zero if there is none.
    ///
    /// The condition is for transactions whose outcome is unknown. One that arrives late would
    /// bring a manifest back whose pages and batches are deleted.
    pub(crate) async fn replace_manifest(
        &self,
        epoch: Epoch,
        expected: i64,
        manifest: String,
    ) -> Result<Replaced, EndpointError> {
        let what = "complete a checkpoint";
        let key = self.keys.checkpoint();
        let is_expected = Compare::mod_revision(key.clone(), CompareOp::Equal, expected);
        let txn = Txn::new()
            .when([is_expected, self.leads(epoch)])
            .and_then([TxnOp::put(key, manifest, None)])
            .or_else([TxnOp::get(self.keys.leader(), None)]);
        let response = self.txn(what, txn).await?;
        if response.succeeded() {
            return Ok(Replaced::Done(revision(response.header())));
        }
        let reads = reads(&response).unwrap_or_default();
        let leader = reads.first().and_then(|read| read.kvs().first());
        match leader.is_some_and(|leader| Epoch(leader.create_revision()) == epoch) {
            true => Ok(Replaced::Changed),
            false => Ok(Replaced::NotLeading),
        }
    }

    /// The parts of several pages, in order. A page that does not exist has none.
    pub(crate) async fn pages(
        &self,
        pages: &[(PageId, Zxid)],
    ) -> Result<Vec<Vec<Vec<u8>>>, EndpointError> {
        let what = "read pages of a checkpoint";
        let gets = pages.iter().map(|&(page, modified)| {
            let range = self.keys.page(page, modified);
            TxnOp::get(range.start, Some(GetOptions::new().with_range(range.end)))
        });
        let txn = Txn::new().and_then(gets.collect::<Vec<_>>());
        let response = self.txn(what, txn).await?;
        let found = reads(&response).filter(|found| found.len() == pages.len());
        let found = found.ok_or_else(|| EndpointError::unknown(what, "answers are missing"))?;
        Ok(found
            .into_iter()
            .map(|mut page| {
                let parts = page.take_kvs().into_iter();
                parts.map(|part| part.into_key_value().1).collect()
            })
            .collect())
    }

    /// The keys of all parts of all pages, and `None`; or some of them, and where to go on.
    pub(crate) async fn listed_parts(
        &self,
        from: Option<Vec<u8>>,
    ) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>), EndpointError> {
        let range = self.keys.pages();
        let options = GetOptions::new()
            .with_range(range.end)
            .with_limit(LISTED_KEYS)
            .with_keys_only();
        let start = from.unwrap_or(range.start);
        let mut response = self.range("list pages", start, options).await?;
        let more = response.more();
        let parts = response.take_kvs().into_iter();
        let parts: Vec<Vec<u8>> = parts.map(|part| part.into_key_value().0).collect();
        // The key after the last one.
        let next = parts.last().filter(|_| more).cloned().map(|mut last| {
            last.push(0);
            last
        });
        Ok((parts, next))
    }
}
