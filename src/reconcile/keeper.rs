//! The work that is the same for every kind of kernel object.
//!
//! A [`Keeper`] remembers which parts of a [`Subject`] are to be looked at and which steps are known without a look, tries
//! again what failed, and says what stands in the way. What went well it believes to be so until the next full look, or
//! until the kernel says otherwise. A pass that is broken off leaves what it was at to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;

use super::desire::World;
use super::subject::{Announcement, Changes, Failed, Subject, Todo, Turn};
use crate::kernel::{Kernel, KernelError, KernelEvent};

/// How many steps are named of those that put something back.
const PUT_BACK: usize = 10;

/// Keeps one kind of kernel object as it should be.
pub struct Keeper<S: Subject> {
    /// The kind.
    pub subject: S,
    todo: Changes<S>,
    /// All that is there is to be looked at, and it is not known yet what that is.
    all: bool,
    /// What was seen in this pass.
    seen: BTreeMap<S::Key, S::Observed>,
    /// What could not be done about a part when it was last tried.
    failures: BTreeMap<S::Key, Vec<String>>,
    /// Why it is not known what there is.
    unlisted: Option<String>,
    /// The parts that could not be looked at when that was last tried.
    unseen: BTreeMap<S::Key, KernelError>,
    /// What failed in this pass.
    failed: Failed<S::Step>,
    /// The parts that were as they should be when they were last dealt with, and of which nothing else is desired since.
    right: BTreeSet<S::Key>,
    /// Steps about these parts that are due since, as text.
    fresh: BTreeMap<S::Key, BTreeSet<String>>,
    /// What something else had changed, and is as it was again.
    put_back: Vec<String>,
}

impl<S: Subject> Keeper<S> {
    /// Of a kind of which nothing is known yet.
    pub fn new(subject: S) -> Self {
        Self {
            subject,
            todo: BTreeMap::new(),
            all: true,
            seen: BTreeMap::new(),
            failures: BTreeMap::new(),
            unlisted: None,
            unseen: BTreeMap::new(),
            failed: Vec::new(),
            right: BTreeSet::new(),
            fresh: BTreeMap::new(),
            put_back: Vec::new(),
        }
    }

    /// What failed in the last pass.
    pub fn take_failed(&mut self) -> Failed<S::Step> {
        std::mem::take(&mut self.failed)
    }

    fn doubt_part(&mut self, key: S::Key) {
        if let Some(Todo::Steps(steps)) = self.todo.insert(key, Todo::Look) {
            self.note_fresh(key, &steps);
        }
    }

    /// These are due because something else is desired: not that what finds them by a look takes them for a repair.
    fn note_fresh(&mut self, key: S::Key, steps: &[S::Step]) {
        if self.right.contains(&key) {
            self.fresh.entry(key).or_default().extend(steps.iter().map(ToString::to_string));
        }
    }

    fn add(&mut self, key: S::Key, todo: Todo<S::Step>) {
        match (self.todo.get_mut(&key), todo) {
            (Some(Todo::Look), Todo::Steps(steps)) => self.note_fresh(key, &steps),
            (Some(Todo::Look), Todo::Look) => {}
            (Some(Todo::Steps(known)), Todo::Steps(more)) => known.extend(more),
            (_, todo) => drop(self.todo.insert(key, todo)),
        }
    }

    async fn list(&mut self, kernel: &dyn Kernel) {
        if !self.all {
            return;
        }
        match S::list(kernel).await {
            Ok(keys) => {
                self.all = false;
                self.unlisted = None;
                // What is wanted and not there is as wrong as what is there and not wanted.
                keys.into_iter().chain(self.subject.wanted()).for_each(|key| self.doubt_part(key));
            }
            Err(error) => self.unlisted = Some(format!("{}: {error}", S::NAME)),
        }
    }

    /// What is there of a part; `None` where that cannot be seen now.
    async fn look_at(&mut self, kernel: &dyn Kernel, key: S::Key) -> Option<S::Observed> {
        match S::observe(kernel, key).await {
            Ok(seen) => {
                self.unseen.remove(&key);
                Some(seen)
            }
            Err(error) => {
                self.failures.insert(key, vec![format!("{}: {error}", S::NAME)]);
                self.unseen.insert(key, error);
                None
            }
        }
    }

    /// Why nothing was done about a part in the last pass though there is something to do: it could not be looked at.
    pub fn take_unseen(&mut self, key: S::Key) -> Option<KernelError> {
        self.unseen.remove(&key)
    }

    /// What is said of a part, with whose it is.
    fn of(&self, key: S::Key, text: String) -> String {
        match self.subject.whose(key) {
            Some(whose) => format!("{whose} {text}"),
            None => text,
        }
    }

    async fn turn_of(&mut self, kernel: &dyn Kernel, key: S::Key, turn: Turn) -> usize {
        let Some(todo) = self.todo.get(&key).cloned() else { return 0 };
        let seen = self.seen.remove(&key);
        let (mut was_right, fresh) = (self.right.remove(&key), self.fresh.remove(&key).unwrap_or_default());
        let steps = match (todo, seen) {
            (Todo::Steps(steps), None) => {
                was_right = false;
                steps
            }
            (_, seen) => {
                let seen = match seen {
                    Some(seen) => seen,
                    None => match self.look_at(kernel, key).await {
                        Some(seen) => seen,
                        None => return 0,
                    },
                };
                self.subject.plan(key, &seen, turn)
            }
        };
        // Until it is known how it ended.
        self.doubt_part(key);
        if let Err(problem) = self.subject.before(kernel, key, &steps).await {
            self.failures.insert(key, vec![format!("{}: {problem}", S::NAME)]);
            return 0;
        }
        for step in &steps {
            tracing::debug!(subject = S::NAME, %step, "a step");
        }
        let undone = steps.iter().filter(|step| was_right && S::undoes(step));
        let undone = undone.filter(|step| fresh.is_empty() || !fresh.contains(&step.to_string()));
        let undone: Vec<String> = undone.map(|step| self.of(key, S::describe(step))).take(PUT_BACK).collect();
        let count = steps.len();
        let failed = if steps.is_empty() { Vec::new() } else { S::carry_out(kernel, key, steps).await };
        let done = count.saturating_sub(failed.len());
        let taken_up = self.subject.after(key, &failed).await;
        let mut failures: Vec<String> = failed
            .iter()
            .map(|(step, error)| self.of(key, format!("{}: {error}", S::describe(step))))
            .collect();
        failures.extend(taken_up.err().map(|problem| format!("{}: {problem}", S::NAME)));
        self.failed.extend(failed);
        if failures.is_empty() {
            self.failures.remove(&key);
            self.put_back.extend(undone);
            self.put_back.truncate(PUT_BACK);
            if self.subject.turns(key).last() == Some(&turn) {
                self.todo.remove(&key);
                self.right.insert(key);
            }
        } else {
            self.failures.insert(key, failures);
        }
        done
    }
}

/// A [`Keeper`] of whatever kind: a row of the table of [`subjects`](super::subjects).
#[async_trait]
pub trait Row: Send + Sync {
    /// From now on nothing is believed: all that is there is looked at in the next pass.
    fn doubt(&mut self);

    /// The kernel says something.
    fn hear(&mut self, event: &KernelEvent);

    /// Takes up what has changed in the world.
    fn follow(&mut self, world: &World<'_>);

    /// Looks at what is to be looked at; whether the world is to be followed again after what was seen.
    async fn look(&mut self, kernel: &dyn Kernel) -> bool;

    /// Does what is due in this turn; how many steps were made.
    async fn turn(&mut self, kernel: &dyn Kernel, turn: Turn) -> usize;

    /// Ends a pass: what was seen in it is old.
    fn end(&mut self);

    /// The steps that a full pass would make now, a line each. Changes nothing, and believes nothing.
    async fn dry_run(&self, kernel: &dyn Kernel) -> Result<Vec<String>, KernelError>;

    /// Whether something is left to be tried again.
    fn is_behind(&self) -> bool;

    /// What stands in the way, for people.
    fn problems(&self) -> Vec<String>;

    /// What something else had changed and is as it was again, a line each, since this was last asked for.
    fn take_put_back(&mut self) -> Vec<String>;

    /// When the next pass is due though nothing happens.
    fn wake(&self) -> Option<Duration>;

    /// What the others are to be told now.
    fn announcement(&self) -> Option<Announcement>;

    /// The others were told.
    fn announced(&mut self, what: Announcement);
}

#[async_trait]
impl<S: Subject> Row for Keeper<S> {
    fn doubt(&mut self) {
        self.all = true;
    }

    fn hear(&mut self, event: &KernelEvent) {
        self.subject.concerned(event).into_iter().for_each(|key| self.doubt_part(key));
    }

    fn follow(&mut self, world: &World<'_>) {
        for (key, todo) in self.subject.follow(world) {
            if matches!(todo, Todo::Look) {
                self.right.remove(&key);
                self.fresh.remove(&key);
            }
            self.add(key, todo);
        }
    }

    async fn look(&mut self, kernel: &dyn Kernel) -> bool {
        self.list(kernel).await;
        for key in self.subject.restless() {
            self.right.remove(&key);
            self.doubt_part(key);
        }
        let keys: Vec<S::Key> =
            self.todo.iter().filter(|(_, todo)| matches!(todo, Todo::Look)).map(|(key, _)| *key).collect();
        let mut again = false;
        for key in keys {
            if let Some(seen) = self.look_at(kernel, key).await {
                again |= self.subject.learn(key, &seen);
                self.seen.insert(key, seen);
            }
        }
        again
    }

    async fn turn(&mut self, kernel: &dyn Kernel, turn: Turn) -> usize {
        // What goes comes first: it may hold what another one needs.
        let turns = |key: &S::Key| self.subject.turns(*key).contains(&turn);
        let mut keys: Vec<S::Key> = self.todo.keys().copied().filter(turns).collect();
        keys.sort_by_key(|key| !self.subject.goes(*key));
        let mut done = 0;
        for key in keys {
            done += self.turn_of(kernel, key, turn).await;
        }
        done
    }

    fn end(&mut self) {
        self.seen.clear();
    }

    async fn dry_run(&self, kernel: &dyn Kernel) -> Result<Vec<String>, KernelError> {
        let mut keys = S::list(kernel).await?;
        keys.extend(self.subject.wanted());
        let mut keys: Vec<S::Key> = keys.into_iter().collect();
        keys.sort_by_key(|key| !self.subject.goes(*key));
        let mut lines = Vec::new();
        for key in keys {
            let seen = S::observe(kernel, key).await?;
            let last = self.subject.turns(key).last().copied().unwrap_or(Turn::Make);
            let steps = self.subject.plan(key, &seen, last);
            lines.extend(steps.iter().map(|step| self.of(key, step.to_string())));
        }
        Ok(lines)
    }

    fn is_behind(&self) -> bool {
        self.all || !self.todo.is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let failures = self.failures.values().flatten();
        let own = self.unlisted.iter().chain(failures).cloned();
        own.chain(self.subject.problems()).collect()
    }

    fn take_put_back(&mut self) -> Vec<String> {
        std::mem::take(&mut self.put_back)
    }

    fn wake(&self) -> Option<Duration> {
        self.subject.wake()
    }

    fn announcement(&self) -> Option<Announcement> {
        self.subject.announcement()
    }

    fn announced(&mut self, what: Announcement) {
        self.subject.announced(what);
    }
}

/// Removes all of a kind from the kernel; what could not be done.
pub async fn remove_all<S: Subject>(kernel: &dyn Kernel) -> Vec<KernelError> {
    let keys = match S::list(kernel).await {
        Ok(keys) => keys,
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    for key in keys {
        match S::observe(kernel, key).await {
            Ok(seen) => {
                let failed = S::carry_out(kernel, key, S::removal(key, &seen)).await;
                errors.extend(failed.into_iter().map(|(_, error)| error));
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}
