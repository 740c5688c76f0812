/** One feature to judge: its strips, a score by the keys 1 to 5, and words. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState } from "react";
import { ApiError, get, send, type Schemas } from "../../api/client";
import type { SAE } from "../../api/queries";
import { activationScale } from "../../lib/colour";
import { useKeys } from "../../lib/keys";
import { plural } from "../../lib/format";
import { useTheme } from "../../lib/theme";
import type { Alignment } from "../../strip/layout";
import { StripList } from "../../strip/StripList";
import type { Hover } from "../../strip/StripRow";
import { Empty, Panel, Problem, Select, Skeleton } from "../../ui/basics";
import { ScaleLegend } from "../../ui/ScaleLegend";
import { LETTER_ZOOM } from "../latent/state";

type Task = Schemas["RatingTask"];
type Rating = Schemas["RatingEdit"];

export const SCORES = ["no pattern", "vague", "some pattern", "clear", "one clear meaning"] as const;
const NONE: readonly string[] = [];

export function Judge({ sae, rater }: { sae: SAE; rater: string }) {
  const client = useQueryClient();
  const [done, setDone] = useState(0);
  const key = ["rate", sae.id, rater, done];
  const { data, error, refetch } = useQuery({
    queryKey: key,
    queryFn: ({ signal }) => get<Task>("rate/next", { sae: sae.id, rater }, signal),
    staleTime: Infinity,
    gcTime: 0,
  });
  const save = useMutation({
    mutationFn: (rating: Rating) => send("POST", "rate", rating),
    onSuccess: () => {
      setDone((n) => n + 1);
      void client.invalidateQueries({ queryKey: ["rate-summary"] });
    },
  });
  if (error instanceof ApiError && error.status === 404) return <Empty title="You have judged all there is">{error.message}</Empty>;
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!data) return <Skeleton lines={1} height={520} />;
  return (
    <>
      <Sheet key={data.task} task={data} busy={save.isPending} done={done} onRate={(score, description) => save.mutate({ task: data.task, rater, score, description })} />
      {save.error && <Problem error={save.error} />}
    </>
  );
}

interface SheetProps {
  task: Task;
  busy: boolean;
  done: number;
  onRate(score: number, description: string): void;
}

function Sheet({ task, busy, done, onRate }: SheetProps) {
  const { dark } = useTheme();
  const scale = useMemo(() => activationScale(1, dark), [dark]);
  const [view, setView] = useState({ zoom: LETTER_ZOOM, centre: 0 });
  const [align, setAlign] = useState<Alignment>("max");
  const [hover, setHover] = useState<Hover | null>(null);
  const [score, setScore] = useState<number | null>(null);
  const [words, setWords] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const onView = useCallback((change: { zoom?: number; centre?: number }) => setView((now) => ({ ...now, ...change })), []);
  const submit = () => score !== null && !busy && onRate(score, words.trim());
  useKeys([
    ...SCORES.map((name, i) => ({ key: String(i + 1), label: `Rate ${i + 1}: ${name}`, run: () => setScore(i + 1) })),
    { key: "d", label: "Describe in words", run: () => field.current?.focus() },
    { key: "Enter", label: "Keep the rating and go on", run: submit },
  ]);
  return (
    <div className="sheet">
      <Panel title="Where it fires" className="examples"
        side={<><Select label="Line up by" value={align} onChange={(next) => { setAlign(next); setView((now) => ({ ...now, centre: 0 })); }}
          options={[{ value: "max", label: "strongest residue" }, { value: "first", label: "first active residue" }, { value: "start", label: "start of protein" }, { value: "msa", label: "sequence (MSA)" }]} />
          <ScaleLegend max={1} label="activation, as a share of the maximum" /></>}
        note={`${plural(task.examples.length, "protein")}, values as a share of the feature’s own maximum.`}>
        {task.examples.length === 0 ? <Empty title="It fires nowhere" /> : (
          <StripList sae={task.sae} examples={task.examples} scale={scale} align={align} zoom={view.zoom} centre={view.centre} motif="" lead={NONE}
            selected={null} hover={hover} onView={onView} onHover={setHover} />
        )}
      </Panel>
      <Panel title="Is there a pattern?" className="verdictpanel" side={done > 0 && <small>{plural(done, "rating")} this time</small>}>
        <div className="scores" role="radiogroup" aria-label="Score: 1 no pattern, 5 one clear meaning">
          {SCORES.map((name, i) => (
            <button key={name} type="button" role="radio" aria-checked={score === i + 1} onClick={() => setScore(i + 1)}>
              <kbd>{i + 1}</kbd> {name}
            </button>
          ))}
        </div>
        <textarea ref={field} className="field" rows={2} maxLength={2000} aria-label="What is the pattern?" placeholder="What is the pattern, in a few words? (d)" value={words}
          onChange={(e) => setWords(e.target.value)}
          onKeyDown={(e) => {
            if (e.key === "Escape") e.currentTarget.blur();
            if (e.key !== "Enter" || e.shiftKey) return;
            e.preventDefault();
            submit();
          }} />
        <button type="button" className="button primary" disabled={score === null || busy} onClick={submit}>{busy ? "Keeping…" : "Keep and go on"} <kbd>↵</kbd></button>
      </Panel>
    </div>
  );
}
