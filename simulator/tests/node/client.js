// Microsoft's device client, told where the simulator is. As a program it registers one device:
// node client.js <port> <ca file> <id scope> <registration id> <device key>
'use strict';

const fs = require('node:fs');
const https = require('node:https');

const { Http: BaseHttp } = require('azure-iot-http-base');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

// The client takes no port, so it goes in through the agent. `x509`: `cert`, with what follows it, and `key` in PEM.
function register({ port, trust, idScope, id, key, x509, payload }) {
  const agent = new https.Agent({ port: Number(port), ca: trust, keepAlive: true });
  const base = new BaseHttp();
  base.setOptions({ http: { agent } });
  const client = ProvisioningDeviceClient.create(
    'localhost', idScope, new Http(base), x509 ? new X509Security(id, x509) : new SymmetricKeySecurityClient(id, key));
  if (payload) {
    client.setProvisioningPayload(payload);
  }
  return client.register().finally(() => agent.destroy());
}

module.exports = { register };

if (require.main === module) {
  const [port, caFile, idScope, id, key] = process.argv.slice(2);
  register({ port, trust: fs.readFileSync(caFile, 'utf8'), idScope, id, key }).then(
    (result) => console.log(JSON.stringify(result)),
    (error) => { console.error(String(error)); process.exitCode = 1; });
}
