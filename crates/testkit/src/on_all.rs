/// Makes a test of each function for stock etcd and for each engine of our server: `share => name,
/// name;`. A function takes a [`Lab`](crate::Lab) and a [`Server`](crate::Server).
#[macro_export]
macro_rules! on_all {
    ($share:ident => $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn etcd() -> anyhow::Result<()> {
                $crate::run($crate::Share::$share, async |lab| {
                    super::$name(lab, $crate::Server::Etcd).await
                })
            }

            #[test]
            fn raft() -> anyhow::Result<()> {
                $crate::run($crate::Share::$share, async |lab| {
                    super::$name(lab, $crate::Server::SYNOD).await
                })
            }

            #[test]
            fn multi_paxos() -> anyhow::Result<()> {
                $crate::run($crate::Share::$share, async |lab| {
                    super::$name(lab, $crate::Server::PAXOS).await
                })
            }
        }
    )+};
}
