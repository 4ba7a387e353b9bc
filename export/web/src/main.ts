/** Starts the page. */
import "./styles.css";
import { offerModels, openSession } from "./ui/intake";
import { tell } from "./ui/notices";
import { registerWorker } from "./ui/offline";
import { applyPreferences, build, suggestLanguage } from "./ui/shell";

applyPreferences();
build(document.getElementById("app")!);
const session = new URLSearchParams(location.search).get("session");
if (session === null) registerWorker();
start().catch(tell);

async function start(): Promise<void> {
  await offerModels();
  if (session === null) return;
  const wanted = await openSession(session);
  if (wanted) suggestLanguage(wanted);
}
