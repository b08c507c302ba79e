// Microsoft's device client for Node.js reads what the operator wrote. run.sh sets FORMATS.
'use strict';

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const { test } = require('node:test');

const common = require('azure-iot-common');
const { ConnectionString, SharedAccessKeyAuthenticationProvider } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const devices = JSON.parse(fs.readFileSync(process.env.FORMATS, 'utf8'));

// What the client would connect with, to where.
async function connection(text) {
  const provider = SharedAccessKeyAuthenticationProvider.fromConnectionString(text);
  const broker = new EventEmitter();
  const asked = new Promise((resolve) => {
    broker.connect = (config, done) => {
      resolve(config);
      done(new Error('nobody is connected to'));
    };
  });
  await new Promise((resolve) => new Mqtt(provider, broker).connect(resolve));
  provider.stop();
  return asked;
}

test('there is something to be read', () => {
  assert.equal(devices.length, 4);
  assert.equal(devices.filter((device) => device.gateway).length, 2);
});

for (const { config, data, gateway, hub, key, registrationId } of devices) {
  const whose = `of a device ${gateway ? 'behind a gateway' : 'of its own'}, with ${config}`;

  test(`the connection string ${whose} has the fields that it should have and no others`, () => {
    const fields = { HostName: hub, DeviceId: registrationId, SharedAccessKey: key };
    const expected = gateway ? { ...fields, GatewayHostName: gateway } : fields;
    for (const text of [data.connectionString, data.IOTHUB_DEVICE_CONNECTION_STRING]) {
      assert.deepEqual({ ...common.ConnectionString.parse(text, Object.keys(expected)) }, expected);
      assert.deepEqual({ ...ConnectionString.parse(text) }, expected);
    }
  });

  test(`the keys for MQTT ${whose} are what the client makes of the connection string`, async () => {
    const { clientId, sharedAccessSignature, uri, username } = await connection(data.connectionString);
    assert.equal(data.mqttClientId, clientId);
    assert.equal(`mqtts://${data.mqttHost}`, uri);
    // The client adds what it is.
    const [identity] = username.split('&');
    assert.equal(data.mqttUsername, identity);
    assert.equal(data.username, identity);
    assert.ok(sharedAccessSignature.includes(`sr=${encodeURIComponent(`${hub}/devices/${registrationId}`)}`));
  });
}
