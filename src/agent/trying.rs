//! Trying one way to another node at once, with probes like those that are sent all the time.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::health::{Health, lock};
use super::trials::Asked;
use crate::cluster::Cluster;
use crate::health::{Ask, Trial, Way, WayKey};

/// How many rounds there are, and how long is waited for the answers of each.
const ROUNDS: usize = 4;
const WAIT: Duration = Duration::from_millis(250);

impl Health {
    /// Tries a way for a second at most; `None` where there is no such way: the other node does not answer, answers no probes, or one of
    /// the two has no endpoint in the network. The clock of the verdict says nothing.
    pub async fn try_now(&self, cluster: &Cluster, key: WayKey) -> Option<Way> {
        let mut way = self.ways().into_iter().find(|(found, _)| *found == key)?.1;
        let view = cluster.view().borrow().clone();
        let keys = cluster.probe_keys();
        let trials = &self.0.trials;
        let mut asked = Asked::new(trials);
        let mut trial = Trial::new(way.goal.size);
        let began = self.now();
        for _ in 0..ROUNDS {
            let sizes = trial.round();
            if sizes.is_empty() {
                break;
            }
            let numbers: Vec<u64> = {
                let mut ways = lock(&self.0.ways);
                sizes.iter().map(|_| ways.draw()).collect()
            };
            asked.add(numbers.iter().copied().zip(sizes.iter().copied()));
            let asks: Vec<Ask> =
                numbers.into_iter().zip(sizes).map(|(number, size)| Ask { key, number, size }).collect();
            self.ask(&view, keys.borrow().first(), &asks);
            let deadline = Instant::now() + WAIT;
            loop {
                let news = trials.news();
                asked.answered().into_iter().for_each(|size| trial.answered(size));
                if trial.is_whole() || timeout_at(deadline, news).await.is_err() {
                    break;
                }
            }
        }
        let heard = lock(&self.0.ways).heard_at(key).is_some_and(|at| at >= began);
        way.verdict = trial.verdict(heard);
        Some(way)
    }
}
