/** The chosen latents as a table; only the rows in view are in the page. */
import { createColumnHelper, flexRender, getCoreRowModel, getSortedRowModel, useReactTable, type SortingState } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef } from "react";
import { Link } from "wouter";
import type { Columns } from "../../api/queries";
import { conceptName } from "../../lib/concept";
import { fixed, percent, sig } from "../../lib/format";
import { latentHref } from "../../lib/links";
import { Empty, Term } from "../../ui/basics";
import { Icon } from "../../ui/icons";

export interface LatentTableProps {
  sae: string;
  columns: Columns;
  chosen: readonly number[];
  sort: string;
  hover: number | null;
  onSort(sort: string): void;
  onHover(j: number | null): void;
}

const ROW = 34;
const helper = createColumnHelper<number>();

export function LatentTable({ sae, columns: c, chosen, sort, hover, onSort, onHover }: LatentTableProps) {
  const columns = useMemo(() => [
    helper.accessor((j) => j, { id: "latent", header: "Latent", cell: ({ row }) => <Link href={latentHref(sae, row.original)}><span className="number">{row.original}</span> {c.label[row.original]}</Link> }),
    helper.accessor((j) => c.kind[j], { id: "kind", header: "Kind" }),
    helper.accessor((j) => c.f1[j] ?? undefined, { id: "f1", header: () => <Term of="f1">F1</Term>, sortUndefined: "last", cell: (v) => fixed(v.getValue()) }),
    helper.accessor((j) => c.concept[j] ?? undefined, { id: "concept", header: "Best concept", sortUndefined: "last", cell: (v) => conceptName(v.getValue() ?? "") }),
    helper.accessor((j) => c.frequency[j], { id: "frequency", header: () => <Term of="frequency">Fires on</Term>, cell: (v) => percent(v.getValue()) }),
    helper.accessor((j) => c.max[j], { id: "max", header: () => <Term of="max">Max</Term>, cell: (v) => sig(v.getValue()) }),
    helper.accessor((j) => c.protein_frequency[j], { id: "proteins", header: () => <Term of="proteinFrequency">Proteins</Term>, cell: (v) => percent(v.getValue()) }),
    helper.accessor((j) => (c.confirmed[j] ? 1 : 0), { id: "confirmed", header: () => <Term of="confirmed">Conf.</Term>, cell: (v) => v.getValue() ? <Icon name="check" size={13} /> : "" }),
  ], [c, sae]);
  const data = useMemo(() => [...chosen], [chosen]);
  const sorting = useMemo<SortingState>(() => (sort ? [{ id: sort.replace(/^-/, ""), desc: sort.startsWith("-") }] : []), [sort]);
  const table = useReactTable({
    data, columns, state: { sorting }, sortDescFirst: true, getCoreRowModel: getCoreRowModel(), getSortedRowModel: getSortedRowModel(),
    onSortingChange: (update) => {
      const next = (typeof update === "function" ? update(sorting) : update)[0];
      onSort(next ? `${next.desc ? "-" : ""}${next.id}` : "");
    },
  });
  const scroller = useRef<HTMLDivElement>(null);
  const rows = table.getRowModel().rows;
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 12 });
  useEffect(() => {
    // Braces: newer browsers answer scrollTo with a promise, which React would take for a clean-up.
    void scroller.current?.scrollTo({ top: 0 });
  }, [chosen, sort]);
  return (
    <div className="latenttable" ref={scroller} tabIndex={0} role="table" aria-label="Latents" aria-rowcount={rows.length}>
      <div role="rowgroup" className="head">
        {table.getHeaderGroups().map((group) => (
          <div role="row" className="row" key={group.id}>
            {group.headers.map((header) => {
              const now = header.column.getIsSorted();
              return (
                <div role="columnheader" key={header.id} className={header.id} aria-sort={now === "asc" ? "ascending" : now === "desc" ? "descending" : undefined}>
                  {flexRender(header.column.columnDef.header, header.getContext())}{" "}
                  <button type="button" className="sort" aria-label={`Sort by ${header.id}`} onClick={header.column.getToggleSortingHandler()}>{now === "asc" ? "↑" : now === "desc" ? "↓" : "⇅"}</button>
                </div>
              );
            })}
          </div>
        ))}
      </div>
      {rows.length === 0 && <Empty title="No latent is left">Loosen a filter, or clear them all.</Empty>}
      <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const row = rows[index]!;
          return (
            <div role="row" key={row.id} className={`row${row.original === hover ? " hover" : ""}`} aria-rowindex={index + 1} style={{ transform: `translateY(${start}px)` }}
              onMouseEnter={() => onHover(row.original)} onMouseLeave={() => onHover(null)}>
              {row.getVisibleCells().map((cell) => <div role="cell" key={cell.id} className={cell.column.id} title={cell.column.id === "latent" ? c.label[row.original] : undefined}>{flexRender(cell.column.columnDef.cell, cell.getContext())}</div>)}
            </div>
          );
        })}
      </div>
    </div>
  );
}
