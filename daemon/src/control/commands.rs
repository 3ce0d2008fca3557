//! Carries out what is asked of a running daemon, and answers in JSON.
//!
//! One `Commands` stands for a daemon, however many peers ask. Orders to a thread go one after the other, and each is logged with
//! the bin from which it holds.

use super::candidate::{self, CandidateError};
use super::request::Request;
use crate::config::Config;
use crate::decoder::{Decoder, masked_max};
use crate::host::watchdog;
use crate::output::DescriptionFrames;
use crate::pipeline::ControlEnds;
use crate::pipeline::counters::Counters;
use crate::pipeline::orders::{DecodeOrder, ModelOrder, Order, OrderError, Orders, PublishOrder};
use crate::pipeline::shadow::{Progress, Shadow, State};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::wire::{self, Description};
use ndt_protocol::{Bundle, Manifest, Quality};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use tracing::{info, warn};

/// How long a thread has to carry out an order. The publish thread turns once a second at least.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a swap looks whether the candidate has taken over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much longer than it needs a candidate may take before it is given up, and how long a model that comes back may wait for a bin.
const SLACK: Duration = Duration::from_secs(20);

/// Descriptions that are kept until the publish thread has another one for certain.
const DESCRIPTIONS_KEPT: usize = 8;

/// A running daemon, for whoever gives it orders.
pub struct Commands {
    config: Config,
    counters: Arc<Counters>,
    started: Instant,
    publish: Mutex<Orders<PublishOrder>>,
    models: Mutex<Models>,
    stop: Notify,
}

/// The models of the decode thread, as far as the control plane knows.
struct Models {
    decode: Orders<DecodeOrder>,
    fallback: Option<Orders<ModelOrder>>,
    masked: BTreeSet<i64>,
    present: Model,
    beside: Option<Beside>,
    /// Whether a bundle is being read for a swap.
    is_loading: bool,
    /// Descriptions that the publish thread may have: it must not free the last one.
    described: VecDeque<Arc<DescriptionFrames>>,
}

/// A model that is loaded.
struct Model {
    path: PathBuf,
    engine: String,
    manifest: Manifest,
    description: Arc<DescriptionFrames>,
}

/// A model that takes in the same bins as the present one.
struct Beside {
    model: Model,
    progress: Arc<Progress>,
    /// Whether it was replaced, and may come back; a candidate otherwise.
    is_replaced: bool,
}

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A thread does not take the order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The new bundle cannot be used.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// A channel is not one of the bundle's.
    #[error("expected channels of the bundle, found channel {0}")]
    UnknownChannel(i64),
    /// No channel would be left.
    #[error("expected a channel that is not masked, found none")]
    AllMasked,
    /// Another swap is under way.
    #[error("expected no other swap under way, found one; `rollback` gives it up")]
    Swapping,
    /// There is nothing to go back to.
    #[error("expected a model that was replaced, found none")]
    NothingReplaced,
    /// The candidate was taken away while it ran in shadow.
    #[error("expected the candidate to stay in shadow, found that `rollback` has given it up")]
    GivenUp,
    /// Both models together take longer than a bin.
    #[error(
        "expected time for a step of both models within a bin, found that the candidate fell behind; nothing is changed"
    )]
    FellBehind,
    /// No bins come, or not enough.
    #[error(
        "expected bins from which the candidate gets its history, found too few within {0:.0} s; nothing is changed"
    )]
    NoBins(f64),
    /// No bin comes before which the model could come back.
    #[error(
        "expected a bin before which the model can come back, found none within {0:.0} s; it comes back before the next one"
    )]
    NoBin(f64),
    /// The thread that reads the bundle has ended.
    #[error("expected the bundle to be read, found that its thread has ended: {0}")]
    Thread(String),
}

impl Commands {
    /// Takes over the control plane's ends of a pipeline that runs with `config` and decodes `bundle` with the named engine.
    pub fn new(config: &Config, bundle: &Bundle, engine: &str, ends: ControlEnds) -> Commands {
        let ControlEnds { decode, publish, fallback, counters } = ends;
        let model = Model::new(config.bundle.clone(), bundle, engine.to_owned());
        let masked = config.mask_channels.iter().copied().collect();
        Commands {
            config: config.clone(),
            counters,
            started: Instant::now(),
            publish: Mutex::new(publish),
            models: Mutex::new(Models {
                decode,
                fallback,
                masked,
                present: model,
                beside: None,
                is_loading: false,
                described: VecDeque::new(),
            }),
            stop: Notify::new(),
        }
    }

    /// Returns once somebody has asked the daemon to stop.
    pub async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// Ends the daemon. Called once the answer to `stop` is written.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Carries out a request of `who` and returns the answer: an object with `ok`, or with `error`.
    pub async fn answer(&self, request: &Request, who: &str) -> Value {
        let answered = match request {
            Request::Status => Ok(self.status().await),
            Request::Pause => self.publish(PublishOrder::Pause).await,
            Request::Resume => self.publish(PublishOrder::Resume).await,
            Request::Reset => self.order(ModelOrder::Reset).await,
            Request::Mask(ids) => self.mask(ids, |masked| masked.union(ids).copied().collect()).await,
            Request::Unmask(ids) => self.mask(ids, |masked| masked.difference(ids).copied().collect()).await,
            Request::UnmaskAll => self.mask(&BTreeSet::new(), |_| BTreeSet::new()).await,
            Request::Swap { path, shadow_s } => self.swap(path.clone(), *shadow_s).await,
            Request::RollBack => self.roll_back().await,
            Request::Stop => Ok(json!({})),
        };
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                warn!("order \"{request}\" of {who}: {error}");
                return json!({ "error": error.to_string() });
            }
        };
        if *request != Request::Status {
            match (answer.get("stream"), answer.get("from-bin")) {
                (Some(Value::Number(stream)), Some(Value::Number(seq))) => {
                    info!("order \"{request}\" of {who}: holds from bin {seq} of stream {stream}");
                }
                (Some(_), _) => info!("order \"{request}\" of {who}: holds from the first bin"),
                (None, _) => info!("order \"{request}\" of {who}: done"),
            }
        }
        answer["ok"] = Value::Bool(true);
        answer
    }

    async fn publish(&self, order: PublishOrder) -> Result<Value, CommandError> {
        let order = self.publish.lock().await.carry_out(order, PATIENCE).await?;
        Ok(holds_from(&order))
    }

    /// Has all models carry out an order.
    async fn order(&self, order: ModelOrder) -> Result<Value, CommandError> {
        self.models.lock().await.order(order).await
    }

    /// Masks the channels that `change` makes of those that are masked, after a look at the `named` ones.
    async fn mask(
        &self,
        named: &BTreeSet<i64>,
        change: impl FnOnce(&BTreeSet<i64>) -> BTreeSet<i64> + Send,
    ) -> Result<Value, CommandError> {
        let mut models = self.models.lock().await;
        let ids = models.present.manifest.channel_ids.clone();
        if let Some(unknown) = named.iter().find(|id| !ids.contains(id)) {
            return Err(CommandError::UnknownChannel(*unknown));
        }
        let masked = change(&models.masked);
        let flags: Vec<bool> = ids.iter().map(|id| masked.contains(id)).collect();
        if !flags.contains(&false) {
            return Err(CommandError::AllMasked);
        }
        let most = masked_max(ids.len(), self.config.max_masked_share);
        // Kept before the order is carried out: one that is taken late holds all the same.
        models.masked = masked.clone();
        let mut answer = models.order(ModelOrder::Mask(flags)).await?;
        answer["masked"] = json!(masked);
        answer["too-few-channels"] = json!(masked.len() > most);
        Ok(answer)
    }

    async fn swap(&self, path: PathBuf, shadow_s: f64) -> Result<Value, CommandError> {
        let present = {
            let mut models = self.models.lock().await;
            models.settle();
            if models.is_loading || models.candidate().is_some() {
                return Err(CommandError::Swapping);
            }
            models.is_loading = true;
            models.present.manifest.clone()
        };
        let began = self.begin_swap(path, shadow_s, present).await;
        self.models.lock().await.is_loading = false;
        let (progress, limit) = began?;
        self.await_take_over(&progress, limit).await?;
        let mut answer = self.took_over(&progress).await;
        answer["comparison"] = json!(progress.figures.report());
        Ok(answer)
    }

    /// Loads the candidate and hands it to the decode thread. Returns what is known of it from then on, and how long it may take.
    async fn begin_swap(
        &self,
        path: PathBuf,
        shadow_s: f64,
        present: Manifest,
    ) -> Result<(Arc<Progress>, Duration), CommandError> {
        let (config, from) = (self.config.clone(), path.clone());
        let loading = tokio::task::spawn_blocking(move || candidate::load(&config, &from, &present));
        let loaded = loading.await.map_err(|error| CommandError::Thread(error.to_string()))??;
        let candidate::Candidate { bundle, engine, step_ns } = loaded;
        let time =
            self.config.guard(&bundle.manifest).map_err(|error| CommandError::Thread(error.to_string()))?;
        let model = Model::new(path, &bundle, engine.name());
        let mut models = self.models.lock().await;
        let masked: Vec<i64> = models.masked.iter().copied().collect();
        let decoder = Decoder::new(&bundle, engine, &masked, time.time);
        let decoder = decoder.limiting_masked(self.config.max_masked_share);
        let width_s = bundle.manifest.bin_width_ms * 1e-3;
        let bins_min = (shadow_s / width_s).ceil() as u64;
        let shadow = Shadow::candidate(&bundle, decoder, bins_min, step_ns);
        let bins = bins_min.max(shadow.reach_bins() as u64);
        let limit = Duration::from_secs_f64(bins as f64 * width_s) + SLACK;
        let progress = shadow.progress();
        let order = DecodeOrder::Beside(Some(Box::new(shadow)));
        let beside = Beside { model, progress: progress.clone(), is_replaced: false };
        let before = models.beside.replace(beside);
        match models.decode.carry_out(order, PATIENCE).await {
            // The model that came back in the order ends here, on the control plane.
            Ok(order) => drop(order),
            Err(busy @ OrderError::Busy(_)) => {
                models.beside = before;
                return Err(busy.into());
            }
            // It will be taken all the same.
            Err(untaken) => return Err(untaken.into()),
        }
        Ok((progress, limit))
    }

    /// Waits until the model of `progress` has taken over.
    async fn await_take_over(&self, progress: &Arc<Progress>, limit: Duration) -> Result<(), CommandError> {
        let began = Instant::now();
        loop {
            let state = progress.state();
            if matches!(state, State::TookOver { .. }) {
                return Ok(());
            }
            let is_over = began.elapsed() > limit;
            {
                let mut models = self.models.lock().await;
                if !models.beside.as_ref().is_some_and(|beside| Arc::ptr_eq(&beside.progress, progress)) {
                    return Err(CommandError::GivenUp);
                }
                if state == State::FellBehind || is_over {
                    models.take_away().await?;
                    // It may have taken over in the meantime.
                    return match (progress.state(), state) {
                        (State::TookOver { .. }, _) => Ok(()),
                        (_, State::FellBehind) => Err(CommandError::FellBehind),
                        _ => Err(CommandError::NoBins(limit.as_secs_f64())),
                    };
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn took_over(&self, progress: &Progress) -> Value {
        let mut models = self.models.lock().await;
        models.settle();
        let description = models.present.description.clone();
        models.described.truncate(DESCRIPTIONS_KEPT);
        models.described.push_front(description.clone());
        let described =
            self.publish.lock().await.carry_out(PublishOrder::Describe(description), PATIENCE).await;
        if let Err(error) = described {
            warn!("the estimates are still described as those of the bundle before: {error}");
        }
        let mut answer = json!({ "bundle": models.present.to_json() });
        if let State::TookOver { stream, seq } = progress.state() {
            answer["stream"] = json!(stream);
            answer["from-bin"] = json!(seq);
        }
        answer
    }

    async fn roll_back(&self) -> Result<Value, CommandError> {
        let progress = {
            let mut models = self.models.lock().await;
            models.settle();
            if models.candidate().is_some() {
                models.take_away().await?;
                return Ok(json!({ "bundle": models.present.to_json(), "given-up": true }));
            }
            let order = models.decode.carry_out(DecodeOrder::RollBack, PATIENCE).await?;
            if !order.is_done {
                return Err(CommandError::NothingReplaced);
            }
            let Some(beside) = &mut models.beside else { return Err(CommandError::NothingReplaced) };
            beside.is_replaced = false;
            beside.progress.clone()
        };
        let began = Instant::now();
        while !matches!(progress.state(), State::TookOver { .. }) {
            if progress.state() == State::FellBehind {
                return Err(CommandError::FellBehind);
            }
            if began.elapsed() > SLACK {
                return Err(CommandError::NoBin(SLACK.as_secs_f64()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(self.took_over(&progress).await)
    }

    /// How the daemon is.
    async fn status(&self) -> Value {
        let stats = self.counters.stats();
        let health = watchdog::judge(&self.counters.pulse.heartbeats(), monotonic_ns());
        // Peers that were turned away are known to the transports alone.
        let counters: serde_json::Map<String, Value> = stats
            .named()
            .into_iter()
            .filter(|(name, _)| *name != "turned-away")
            .map(|(name, count)| (name.to_owned(), json!(count)))
            .collect();
        let qualities = Quality::ALL.iter().map(|quality| quality.name().to_owned());
        let estimates: serde_json::Map<String, Value> =
            qualities.zip(stats.guard.estimates.map(|count| json!(count))).collect();
        let mut models = self.models.lock().await;
        models.settle();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime-s": self.started.elapsed().as_secs(),
            "paused": self.counters.is_paused(),
            "unhealthy": health.err().map(|unhealthy| unhealthy.to_string()),
            "source": stats.absence.map_or_else(
                || if stats.bins == 0 { "none yet".to_owned() } else { "there".to_owned() },
                |absence| format!("{absence:?}").to_lowercase(),
            ),
            "bundle": models.present.to_json(),
            "masked": models.masked,
            "beside": models.beside.as_ref().map(Beside::to_json),
            "estimates": estimates,
            "counters": counters,
        })
    }
}

impl Models {
    async fn order(&mut self, order: ModelOrder) -> Result<Value, CommandError> {
        if let Some(fallback) = &mut self.fallback {
            fallback.post(order.clone())?;
        }
        let order = self.decode.carry_out(DecodeOrder::Model(order), PATIENCE).await?;
        Ok(holds_from(&order))
    }

    /// The candidate that follows the bins, if there is one.
    fn candidate(&self) -> Option<&Beside> {
        self.beside.as_ref().filter(|beside| !beside.is_replaced)
    }

    /// Takes note of a model that has taken over since it was looked at last.
    fn settle(&mut self) {
        let Models { present, beside: Some(beside), .. } = self else { return };
        if !beside.is_replaced && matches!(beside.progress.state(), State::TookOver { .. }) {
            std::mem::swap(present, &mut beside.model);
            beside.is_replaced = true;
        }
    }

    /// Takes the model beside the present one away, and frees it.
    async fn take_away(&mut self) -> Result<(), CommandError> {
        drop(self.decode.carry_out(DecodeOrder::Beside(None), PATIENCE).await?);
        self.settle();
        self.beside = None;
        Ok(())
    }
}

impl Model {
    fn new(path: PathBuf, bundle: &Bundle, engine: String) -> Model {
        let description = wire::description_frames(0, &Description::of_estimates(bundle, &engine));
        Model { path, engine, manifest: bundle.manifest.clone(), description: Arc::new(description) }
    }

    fn to_json(&self) -> Value {
        json!({ "id": self.manifest.id, "path": self.path, "engine": self.engine })
    }
}

impl Beside {
    fn to_json(&self) -> Value {
        let mut beside = self.model.to_json();
        beside["role"] = json!(if self.is_replaced { "replaced" } else { "candidate" });
        beside["bins"] = json!(self.progress.taken_in());
        if !self.is_replaced {
            beside["comparison"] = json!(self.progress.figures.report());
        }
        beside
    }
}

fn holds_from<T>(order: &Order<T>) -> Value {
    match order.holds_from {
        Some((stream, seq)) => json!({ "stream": stream, "from-bin": seq }),
        None => json!({ "stream": null, "from-bin": null }),
    }
}
