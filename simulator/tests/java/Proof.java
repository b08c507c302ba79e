// Microsoft's device client for Java registers at the simulator with certificates. run.sh starts it and sets the
// variables.

import com.microsoft.azure.sdk.iot.provisioning.device.ProvisioningDeviceClient;
import com.microsoft.azure.sdk.iot.provisioning.device.ProvisioningDeviceClientRegistrationResult;
import com.microsoft.azure.sdk.iot.provisioning.device.ProvisioningDeviceClientTransportProtocol;
import com.microsoft.azure.sdk.iot.provisioning.security.hsm.SecurityProviderX509Cert;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Key;
import java.security.KeyFactory;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;

public class Proof {
    static final Path PKI = Path.of(System.getenv("DPS_PKI"));
    static final String HOST = "localhost:" + System.getenv("DPS_PORT");

    public static void main(String[] arguments) throws Exception {
        ProvisioningDeviceClientRegistrationResult member = register("device-7", "intermediate");
        check("assigned hub", "hub-a.azure-devices.net", member.getIothubUri());
        check("device id", "device-7", member.getDeviceId());
        check("device id of an individual enrollment", "device-eight", register("device-8").getDeviceId());
        try {
            register("device-7");
        } catch (Exception refused) {
            check("refusal", true, messages(refused).contains("CA certificate not found."));
            System.out.println("Microsoft's Java client: 4 checks passed");
            return;
        }
        throw new AssertionError("a certificate without its intermediate CA was taken");
    }

    /** The registration id is the common name of the certificate. */
    static ProvisioningDeviceClientRegistrationResult register(String name, String... others) throws Exception {
        Collection<X509Certificate> chain = new ArrayList<>();
        for (String other : others) {
            chain.add(certificate(other));
        }
        SecurityProviderX509Cert security = new SecurityProviderX509Cert(certificate(name), key(name), chain);
        ProvisioningDeviceClient client = ProvisioningDeviceClient.create(
            HOST, "0ne00000001", ProvisioningDeviceClientTransportProtocol.HTTPS, security);
        try {
            return client.registerDeviceSync();
        } finally {
            client.close();
        }
    }

    static X509Certificate certificate(String name) throws Exception {
        byte[] pem = Files.readAllBytes(PKI.resolve(name + ".pem"));
        return (X509Certificate) CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(pem));
    }

    static Key key(String name) throws Exception {
        String pem = Files.readString(PKI.resolve(name + ".key"), StandardCharsets.US_ASCII);
        byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----[A-Z ]+-----", ""));
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(der));
    }

    static String messages(Throwable error) {
        return error == null ? "" : error.getMessage() + " " + messages(error.getCause());
    }

    static void check(String what, Object expected, Object found) {
        if (!expected.equals(found)) {
            throw new AssertionError(what + ": " + found + " instead of " + expected);
        }
    }
}
