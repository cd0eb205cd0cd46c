import io.etcd.jetcd.Auth;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.auth.Permission;
import java.io.File;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

final class Security {
    private Security() {}

    private static Client secured(boolean withCertificate) throws Exception {
        return Interop.builder().connectTimeout(java.time.Duration.ofSeconds(10)).sslContext(context -> {
            context.trustManager(new File(System.getenv("CA")));
            if (withCertificate) {
                context.keyManager(new File(System.getenv("CERT")), new File(System.getenv("KEY")));
            }
        }).build();
    }

    static void tls() throws Exception {
        try (Client client = secured(true)) {
            KV kv = client.getKVClient();
            var a = Interop.bytes("tls/a");
            Interop.get(kv.put(a, Interop.bytes("before")));
            Interop.ask("renew certificate");
            try (Client other = secured(true)) {
                Interop.expect("a new connection", Interop.pairs(Interop.get(other.getKVClient().get(a))), "tls/a=before");
            }
            Interop.get(kv.put(a, Interop.bytes("after")));
            Interop.expect("the old connection", Interop.pairs(Interop.get(kv.get(a))), "tls/a=after");
            try (Client stranger = secured(false)) {
                boolean served;
                try {
                    stranger.getKVClient().get(a).get(3, TimeUnit.SECONDS);
                    served = true;
                } catch (Exception refused) {
                    served = false;
                }
                Interop.expect("served without a certificate", served, false);
            }
        }
    }

    private static Client as(String user, String password) {
        return Interop.builder().user(Interop.bytes(user)).password(Interop.bytes(password)).build();
    }

    static void auth() throws Exception {
        var root = Interop.bytes("root");
        var own = Interop.bytes("own");
        var user = Interop.bytes("alice");
        var key = Interop.bytes("auth/a");
        var other = Interop.bytes("other");
        try (Client open = Interop.builder().build()) {
            Auth auth = open.getAuthClient();
            Interop.get(auth.roleAdd(root));
            Interop.get(auth.userAdd(root, Interop.bytes("r")));
            Interop.get(auth.userGrantRole(root, root));
            Interop.get(auth.roleAdd(own));
            Interop.get(auth.roleGrantPermission(own, Interop.bytes("auth/"), Interop.bytes("auth0"), Permission.Type.READWRITE));
            Interop.get(auth.userAdd(user, Interop.bytes("a")));
            Interop.get(auth.userGrantRole(user, own));
            Interop.get(auth.authEnable());
            Interop.refused("without a user", () -> open.getKVClient().get(key), "user name is empty");
        }
        try (Client alice = as("alice", "a"); Client admin = as("root", "r"); Client wrong = as("alice", "wrong")) {
            KV kv = alice.getKVClient();
            Interop.get(kv.put(key, Interop.bytes("1")));
            Interop.refused("another key", () -> kv.put(other, Interop.bytes("1")), "permission denied");
            Interop.refused("a wrong password", () -> wrong.getKVClient().get(key), "");
            Interop.get(admin.getKVClient().put(other, Interop.bytes("1")));
            var roles = Interop.get(admin.getAuthClient().userGet(user)).getRoles();
            Interop.expect("roles", roles.toString(), "[own]");
            var permissions = Interop.get(admin.getAuthClient().roleGet(own)).getPermissions();
            Interop.expect("permission", permissions.get(0).getPermType(), Permission.Type.READWRITE);
            Interop.ask("restart 0");
            Interop.expect("with a new token", Interop.pairs(Interop.untilServed(() -> kv.get(key))), "auth/a=1");
            // The client logs in again for keys, but not for users.
            Interop.untilServed(() -> admin.getKVClient().get(key));
            Interop.get(admin.getAuthClient().userRevokeRole(user, own));
            Interop.refused("without a role", () -> kv.get(key), "permission denied");
            Interop.get(admin.getAuthClient().authDisable());
        }
    }
}
