//! What was counted stays counted.

use super::*;
use crate::model::{GroupTraffic, Traffic};

#[tokio::test]
async fn what_went_to_groups_is_as_it_was_while_the_kernel_does_not_tell() {
    let bench = Bench::new();
    bench.attach(&record("a", 10)).await.unwrap();
    bench.pass().await;
    let group = "239.1.1.1".parse().unwrap();
    let sent = |packets| GroupTraffic {
        sent: BTreeMap::from([(group, Traffic { packets, bytes: 100 * packets })]),
        received: BTreeMap::new(),
    };
    let told = async || {
        let tallies = bench.reconciler.tally(BTreeSet::from([NET])).await;
        tallies[&NET].iter().map(|(_, counted)| counted.sent.packets).sum::<u64>()
    };
    bench.kernel.send(NET, sent(5));
    assert_eq!(told().await, 5);
    bench.kernel.send(NET, sent(8));
    bench.kernel.fail("count groups");
    assert_eq!(told().await, 5, "nothing would look as if the counting had begun anew");
    bench.kernel.recover();
    assert_eq!(told().await, 8);
}
