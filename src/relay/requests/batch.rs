//! Submits many jobs of one workflow, all or none.

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::Dispatch;
use crate::job::{JobId, Tags};
use crate::relay::batch_problem::BatchProblem;
use crate::relay::input_files::InputLookups;
use crate::relay::queue::admission::NewQueuedJob;
use crate::relay::registry::Remembered;
use crate::relay::requests::once::{Begun, Claim, MadeJobs};
use crate::relay::requests::post_prompt::Work;
use crate::relay::requests::register::{Accepted, new_job_id};
use crate::relay::requests::submit::{Submission, SubmitOptions};
use crate::relay::{Relay, RelayError};
use crate::workflow::{self, GivenParameters, NamedWorkflow};

/// How many bytes of JSON the workflow and the parameters that all jobs of a batch have may be, times the jobs: each job keeps a
/// graph of its own.
const MAX_SHARED: usize = 256 << 20;

/// Many jobs of one workflow.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The workflow.
    pub workflow: Submission,
    /// In what the jobs differ.
    pub variants: Variants,
    /// Their ids, as many as there are jobs; `None` for ids of the relay's making.
    pub job_ids: Option<Vec<JobId>>,
    /// What the client has said of all of them. Without a group, they get one of their own.
    pub tags: Tags,
    /// What holds for each of them.
    pub options: SubmitOptions,
}

/// In what the jobs of a batch differ.
#[derive(Debug, Clone)]
pub enum Variants {
    /// The parameters of each.
    Params {
        /// Named ones of all of them.
        shared: Map<String, Value>,
        /// Those of each, with or without a dot. They count before the shared ones.
        each: Vec<Map<String, Value>>,
    },
    /// There are so many with seeds that grow by one.
    Seeds {
        /// The parameters of all of them.
        params: GivenParameters,
        /// How many jobs.
        count: usize,
        /// The seed of the first; `None` for the one that the workflow has.
        first: Option<u64>,
    },
}

/// The jobs of a batch.
#[derive(Debug, Clone)]
pub struct AcceptedBatch {
    /// The group that they belong to.
    pub group: String,
    /// In their order.
    pub jobs: Vec<Accepted>,
    /// An earlier request has made them.
    pub is_replayed: bool,
}

impl Variants {
    /// How many jobs they are.
    pub fn count(&self) -> usize {
        match self {
            Self::Params { each, .. } => each.len(),
            Self::Seeds { count, .. } => *count,
        }
    }

    /// Fails if what all jobs have would take too much memory.
    fn check_shared(&self, graph: &Map<String, Value>) -> Result<(), RelayError> {
        let length = |fields: &Map<String, Value>| {
            serde_json::to_string(fields).map_or(usize::MAX, |text| text.len())
        };
        let parameters = match self {
            Self::Params { shared, .. } => length(shared),
            Self::Seeds { params, .. } => length(&params.named) + length(&params.inputs),
        };
        let (size, count) = (length(graph) + parameters, self.count());
        if size.saturating_mul(count) <= MAX_SHARED {
            return Ok(());
        }
        Err(RelayError::BatchTooLarge {
            size,
            count,
            limit: MAX_SHARED / size,
        })
    }
}

impl Relay {
    /// Submits many jobs, all or none: they are on the disk when this returns. A batch that is repeated is answered like the
    /// first one.
    ///
    /// # Errors
    ///
    /// If one of them cannot be submitted, with the problems of all; and where there is no queue.
    pub async fn submit_batch(&self, batch: NewBatch) -> Result<AcceptedBatch, RelayError> {
        if self.0.config.dispatch == Dispatch::Direct {
            return Err(RelayError::QueueOff);
        }
        let relay = self.clone();
        self.complete(async move {
            let count = batch.variants.count();
            let is_named = batch.job_ids.is_some();
            let new_ids = || (0..count).map(|_| new_job_id()).collect();
            let ids = batch.job_ids.clone().unwrap_or_else(new_ids);
            let group = batch.tags.group.clone();
            let group = group.unwrap_or_else(|| Uuid::new_v4().to_string());
            let made = MadeJobs::new(&ids, Some(group));
            match relay.begin(&batch.options.request, made, is_named).await? {
                Begun::Done(made) => relay.batch_before(&made).await,
                Begun::New(claim) => {
                    let submitted = relay.submit_new_batch(&claim, batch).await;
                    if let Err(error) = &submitted {
                        relay.abandon(claim, error).await;
                    }
                    submitted
                }
            }
        })
        .await
    }

    /// The batch that an earlier request has made.
    async fn batch_before(&self, made: &MadeJobs) -> Result<AcceptedBatch, RelayError> {
        let mut jobs = Vec::new();
        for id in made.ids() {
            jobs.push(self.made_before(&id).await?);
        }
        let group = self.group_of(&made.first()?);
        Ok(AcceptedBatch {
            group: group.or(made.group.clone()).unwrap_or_default(),
            jobs,
            is_replayed: true,
        })
    }

    /// The group of a job in memory: that of a batch that names its jobs need not be the one that was chosen now.
    fn group_of(&self, id: &JobId) -> Option<String> {
        let registry = self.0.tracker.registry();
        match registry.remembered(id)? {
            Remembered::Whole(entry) => entry.job.tags().group.clone(),
            Remembered::Ended(ended) => ended.group().map(str::to_owned),
        }
    }

    async fn submit_new_batch(
        &self,
        claim: &Claim,
        batch: NewBatch,
    ) -> Result<AcceptedBatch, RelayError> {
        let mut tags = batch.tags;
        tags.group = claim.made.group.clone();
        let (mut workflow, tags) = self.workflow_of(batch.workflow, tags).await?;
        workflow::check_targets(&workflow.graph, batch.options.prompt.targets())?;
        self.0.tracker.check_choices(&batch.options.backends)?;
        batch.variants.check_shared(&workflow.graph)?;
        let (shared, each) = match batch.variants {
            Variants::Params { shared, each } => (shared, each),
            Variants::Seeds {
                params,
                count,
                first,
            } => {
                // The seeds that they grow from are in them: random ones are drawn once.
                let seeded = workflow::seeds(&workflow, params, count, first)?;
                workflow.header = None;
                (Map::new(), seeded)
            }
        };
        self.await_any_socket(&batch.options.backends).await?;
        let (ids, tags) = (claim.made.ids(), Arc::new(tags));
        let mut jobs = Vec::new();
        let mut problems = Vec::new();
        let mut inputs = InputLookups::default();
        for (index, (id, own)) in ids.iter().zip(each).enumerate() {
            let params = GivenParameters::new(shared.clone(), own);
            let options = &batch.options;
            let new = self.batch_job(id, &workflow, &params, &tags, options, &mut inputs);
            match new.await {
                Ok(job) => jobs.push(job),
                Err(error) => problems.push(BatchProblem {
                    index,
                    code: error.code(),
                    message: error.to_string(),
                }),
            }
        }
        if !problems.is_empty() {
            return Err(RelayError::BadBatch { problems });
        }
        let mut reservations = Vec::new();
        for id in &ids {
            reservations.push(self.reserve(id)?);
        }
        let webhook = batch.options.webhook.as_ref();
        self.store_webhook(&ids, webhook).await?;
        let admitted = self.admit_batch(reservations, jobs).await;
        if let Err(refusal) = &admitted {
            self.drop_webhook(&ids, webhook, refusal).await;
        }
        Ok(AcceptedBatch {
            group: tags.group.clone().unwrap_or_default(),
            jobs: admitted?,
            is_replayed: false,
        })
    }

    /// One job of a batch, filled and checked.
    async fn batch_job(
        &self,
        id: &JobId,
        workflow: &NamedWorkflow,
        params: &GivenParameters,
        tags: &Arc<Tags>,
        options: &SubmitOptions,
        inputs: &mut InputLookups,
    ) -> Result<NewQueuedJob, RelayError> {
        let graph = self.filled(workflow, params)?;
        self.check_inputs(&graph, inputs).await?;
        let work = Work {
            job_id: id.clone(),
            graph,
            options: options.prompt.clone(),
            tags: tags.clone(),
        };
        let request = self.request(&work, &options.backends).await?;
        Ok(self.queued_job(request, &work, options))
    }
}
