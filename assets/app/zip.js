/* Files into one zip, without compressing (images are): only their checksums are read, the content
   stays where it is until it is sent. The format: APPNOTE.TXT of PKWARE, 4.3. */

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

async function checksum(file) {
  let crc = 0xffffffff;
  for (const byte of new Uint8Array(await file.arrayBuffer())) {
    crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/* A record of 2- and 4-byte numbers: [[bytes, value], …], then text. */
function record(fields, text) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0) + text.length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  bytes.set(text, at);
  return bytes;
}

/* entries: [{ path, file }]; tell(done, total) is called on the way. */
async function zipped(entries, name, tell) {
  const parts = [];
  const central = [];
  let at = 0;
  for (const [number, { path, file }] of entries.entries()) {
    const text = new TextEncoder().encode(path);
    // UTF-8 names (bit 11), stored, no date.
    const common = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, await checksum(file)],
      [4, file.size], [4, file.size], [2, text.length], [2, 0]];
    const local = record([[4, 0x04034b50], ...common], text);
    central.push(record([[4, 0x02014b50], [2, 20], ...common,
      [2, 0], [2, 0], [2, 0], [4, 0], [4, at]], text));
    parts.push(local, file);
    at += local.length + file.size;
    tell(number + 1, entries.length);
  }
  if (at > 0xffff0000 || entries.length > 0xfff0) {
    throw new Error("This is too much for one upload: pack it into a zip or tar yourself.");
  }
  const size = central.reduce((sum, one) => sum + one.length, 0);
  const end = record([[4, 0x06054b50], [2, 0], [2, 0], [2, central.length], [2, central.length],
    [4, size], [4, at], [2, 0]], new Uint8Array());
  return new File([...parts, ...central, end], name, { type: "application/zip" });
}
