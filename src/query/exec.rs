//! Running queries: which sources, in which order, when it is enough.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::columns::{ScanRequest, ScanStats, SpanBatch};
use crate::model::{TenantId, TimeRange};
use crate::store::{ScanError, Source};

use super::expr::Condition;
use super::search::{Bar, Search};
use super::tags::{self, Found, Lookup, Names};
use super::{
    Query, QueryError, ScopeTags, SearchRequest, SearchResult, SearchStats, TagAnswer, TagValue,
    TagValuesRequest, TagsRequest,
};

/// Sources that are scanned at once, at most: enough to keep the pool busy, few enough to stop early.
const WAVE: usize = 32;

/// Attributes that one scan looks for when names are filtered.
const NAMES_AT_ONCE: usize = 128;

impl Query {
    /// The most recent traces that match.
    ///
    /// # Errors
    /// When the query is at fault, or storage cannot answer.
    pub async fn search(
        &self,
        tenants: &[TenantId],
        mut request: SearchRequest,
    ) -> Result<SearchResult, QueryError> {
        request.limit = self.limit(request.limit);
        let search = Arc::new(Search::new(&request)?);
        let asked = Arc::new(search.scan_request());
        let sources = self.sources(tenants, &request.range);
        let mut stats = stats(&sources);
        let (mut found, mut bar) = (search.found(), Bar::default());
        for wave in waves(&sources) {
            // Sources are sorted: of all that follow none has newer traces.
            let wanted = |source: &&Source| source.newest_nanos() >= bar.start_nanos;
            let wave: Vec<&Source> = wave.iter().take_while(wanted).collect();
            if wave.is_empty() {
                break;
            }
            let (job, current) = (Arc::clone(&search), std::mem::take(&mut bar));
            let each = move |batch: &SpanBatch| job.collect(batch, &current);
            for (batches, cost) in self.scan(&wave, &asked, Arc::new(each)).await? {
                add_cost(&mut stats, &cost);
                for candidates in batches {
                    candidates?.into_iter().for_each(|candidate| found.add(candidate));
                }
            }
            bar = found.bar();
        }
        Ok(SearchResult { traces: found.finish(), stats })
    }

    /// The names of attributes, by scope.
    ///
    /// # Errors
    /// When the filter is at fault, or storage cannot answer.
    pub async fn tag_names(
        &self,
        tenants: &[TenantId],
        request: TagsRequest,
    ) -> Result<TagAnswer<ScopeTags>, QueryError> {
        let condition = tags::filter(request.filter.as_deref())?.map(Arc::new);
        let (mut names, mut inspected_bytes) = (Names::default(), 0_u64);
        let sources = match request.scope.is_stored() {
            true => self.sources(tenants, &request.range),
            false => Vec::new(),
        };
        for source in &sources {
            let (all, bytes) = self.store.tag_names(source).await?;
            inspected_bytes = inspected_bytes.saturating_add(bytes);
            let all = request.scope.of_source(all);
            match &condition {
                None => all.into_iter().for_each(|(owner, name)| names.add(owner, name)),
                Some(condition) => {
                    for some in all.chunks(NAMES_AT_ONCE) {
                        let asked = tags::names_request(request.range, condition, some);
                        let bytes = self.names_of(source, asked, condition, some, &mut names);
                        inspected_bytes = inspected_bytes.saturating_add(bytes.await?);
                    }
                }
            }
        }
        Ok(TagAnswer { items: names.finish(request.scope, request.limit), inspected_bytes })
    }

    /// Adds the names that spans of a source have which satisfy the condition.
    async fn names_of(
        &self,
        source: &Source,
        asked: ScanRequest,
        condition: &Arc<Condition>,
        some: &[(crate::segment::Owner, String)],
        names: &mut Names,
    ) -> Result<u64, QueryError> {
        let (condition, candidates) = (Arc::clone(condition), some.to_vec());
        let each = move |batch: &SpanBatch| tags::names_in(batch, &condition, &candidates);
        let (batches, cost) = self.store.scan(source, Arc::new(asked), Arc::new(each)).await?;
        for (owner, name) in batches.into_iter().flatten().filter_map(|at| some.get(at)) {
            names.add(*owner, name.clone());
        }
        Ok(cost.inspected_bytes)
    }

    /// The values of an attribute or intrinsic.
    ///
    /// # Errors
    /// When the tag or the filter is at fault, or storage cannot answer.
    pub async fn tag_values(
        &self,
        tenants: &[TenantId],
        request: TagValuesRequest,
    ) -> Result<TagAnswer<TagValue>, QueryError> {
        let scan = match Lookup::new(&request)? {
            Lookup::Known(items) => return Ok(TagAnswer { items, inspected_bytes: 0 }),
            Lookup::Scan(scan) => Arc::new(*scan),
        };
        let asked = Arc::new(scan.request(request.range));
        let sources = self.sources(tenants, &request.range);
        let (mut found, mut inspected_bytes) = (Found::default(), 0_u64);
        for wave in waves(&sources) {
            let wave: Vec<&Source> = wave.iter().collect();
            let job = Arc::clone(&scan);
            let each = move |batch: &SpanBatch| job.collect(batch);
            for (batches, cost) in self.scan(&wave, &asked, Arc::new(each)).await? {
                inspected_bytes = inspected_bytes.saturating_add(cost.inspected_bytes);
                batches.into_iter().for_each(|values| found.merge(values));
            }
            if found.is_full(request.limit) {
                break;
            }
        }
        Ok(TagAnswer { items: found.finish(request.limit), inspected_bytes })
    }

    fn limit(&self, asked: usize) -> usize {
        let of = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let asked = if asked == 0 { of(self.limits.default_limit) } else { asked };
        match self.limits.max_limit {
            0 => asked,
            most => asked.min(of(most)),
        }
    }

    /// What several tenants have in a range: the sources with the newest traces first.
    fn sources(&self, tenants: &[TenantId], range: &TimeRange) -> Vec<Source> {
        let snapshots = tenants.iter().filter_map(|tenant| self.store.snapshot(tenant));
        let mut sources: Vec<Source> = snapshots.flat_map(|snapshot| snapshot.sources).collect();
        sources.retain(|source| source.overlaps(range));
        sources.sort_by_key(|source| std::cmp::Reverse(source.newest_nanos()));
        sources
    }

    /// Scans some sources at once.
    async fn scan<T: Send + 'static>(
        &self,
        sources: &[&Source],
        asked: &Arc<ScanRequest>,
        each: Arc<dyn Fn(&SpanBatch) -> T + Send + Sync>,
    ) -> Result<Vec<(Vec<T>, ScanStats)>, QueryError> {
        let scan = |source: &&Source| {
            let (source, asked, each) = ((*source).clone(), Arc::clone(asked), Arc::clone(&each));
            async move { self.store.scan(&source, asked, each).await }
        };
        let results = join(sources.iter().map(scan).collect()).await;
        Ok(results.into_iter().collect::<Result<_, ScanError>>()?)
    }
}

/// Live data first, alone: it is in memory and often enough. Then more and more blocks at once.
fn waves(sources: &[Source]) -> impl Iterator<Item = &[Source]> {
    let mut rest = sources;
    let mut size = sources.iter().filter(|source| source.is_live()).count().max(1);
    std::iter::from_fn(move || {
        let (wave, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        rest = after;
        size = size.saturating_mul(2).clamp(4, WAVE);
        (!wave.is_empty()).then_some(wave)
    })
}

/// Waits for all of some futures. Dropped, it drops them.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut ready = true;
        for (future, output) in waiting.iter_mut().zip(&mut outputs) {
            if output.is_some() {
                continue;
            }
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// What there is to do. All of it counts as done in the end: what is left out cannot change the answer.
fn stats(sources: &[Source]) -> SearchStats {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let blocks = sources.iter().filter(|source| !source.is_live());
    SearchStats {
        total_blocks: number(blocks.clone().count()),
        total_block_bytes: blocks.map(Source::bytes).fold(0, u64::saturating_add),
        total_jobs: number(sources.len()),
        completed_jobs: number(sources.len()),
        ..SearchStats::default()
    }
}

fn add_cost(stats: &mut SearchStats, cost: &ScanStats) {
    let traces = u32::try_from(cost.inspected_traces).unwrap_or(u32::MAX);
    stats.inspected_traces = stats.inspected_traces.saturating_add(traces);
    stats.inspected_bytes = stats.inspected_bytes.saturating_add(cost.inspected_bytes);
    stats.inspected_spans = stats.inspected_spans.saturating_add(cost.inspected_spans);
}

impl From<ScanError> for QueryError {
    fn from(error: ScanError) -> QueryError {
        if matches!(error, ScanError::Starting) {
            return QueryError::Starting;
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        QueryError::Internal(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_are_joined_in_their_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (first, wait) = tokio::sync::oneshot::channel::<u32>();
        let mut first = Some(first);
        let slow =
            Box::pin(async move { wait.await.unwrap() }) as Pin<Box<dyn Future<Output = u32>>>;
        let quick = Box::pin(poll_fn(move |_| {
            first.take().unwrap().send(1).unwrap();
            Poll::Ready(2)
        }));
        assert_eq!(runtime.block_on(join(vec![slow, quick])), [1, 2]);
        let none = Vec::<Pin<Box<dyn Future<Output = u32>>>>::new();
        assert!(runtime.block_on(join(none)).is_empty());
    }
}
