/* The start page's drop zone (app/start/drop_zone.py). */

const ARCHIVE = /\.(zip|tar|tgz|tar\.(gz|bz2|xz)|parquet)$/i;
const zone = part("zone");

function say(text) {
  part("note").textContent = text;
}

/* Files below what was dropped, with their paths. */
async function entriesOf(entry, before = "") {
  const path = before + entry.name;
  if (entry.isFile) {
    return [{ path, file: await new Promise((done, fail) => entry.file(done, fail)) }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader gives a hundred at a time.
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    for (const one of some) found.push(...(await entriesOf(one, `${path}/`)));
  }
  return found;
}

async function send(entries) {
  const files = entries.filter(({ path }) => !path.split("/").some((name) => name[0] === "."));
  if (!files.length) return say("There are no files in it.");
  zone.classList.add("busy");
  try {
    let file = files[0].file;
    if (files.length > 1 || !ARCHIVE.test(file.name)) {
      const name = files[0].path.includes("/") ? files[0].path.split("/")[0] : "images";
      file = await zipped(files, `${name}.zip`, (done, total) => {
        if (done % 50 === 0 || done === total) say(`Packing: ${done} of ${total} files`);
      });
    }
    say(`Sending ${file.name}: ${(file.size / 1e6).toFixed(1)} MB …`);
    const { path } = await upload(file);
    say(`${file.name} has arrived; reading it.`);
    trigger("dropped", { path });
  } catch (error) {
    say(`This did not work: ${error.message || error}`);
  } finally {
    zone.classList.remove("busy");
  }
}

function listed(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

for (const kind of ["folder", "files"]) {
  const input = part(`${kind}-input`);
  part(kind).addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    await send(listed(input));
    input.value = "";
  });
}
part("demo").addEventListener("click", () => trigger("demo", {}));

zone.addEventListener("dragover", (event) => {
  event.preventDefault();
  zone.classList.add("over");
});
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", async (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  // The list is gone after the first wait.
  const roots = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const root of roots) found.push(...(await entriesOf(root)));
  await send(found);
});

watch("value", () => {
  if (!zone.classList.contains("busy")) say(props.value || "");
});
say(props.value || "");
