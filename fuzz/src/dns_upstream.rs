//! What a resolver outside answers to a question that was forwarded.

use lanmesh::dns::fuzzing;

/// What is taken for an answer can be kept, ages, and can be given on.
pub fn run(input: &[u8]) {
    let _ = fuzzing::taken(input);
}

/// Answers as resolvers send them.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds = fuzzing::upstream_answers();
    assert!(seeds.iter().all(|seed| fuzzing::taken(seed)), "a good answer is taken");
    seeds
}
