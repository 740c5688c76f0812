/** Routes, and what surrounds them. */
import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { Component, lazy, Suspense, type ReactNode } from "react";
import { Route, Router, Switch, useLocation } from "wouter";
import { ApiError, BASE, setStatic } from "./api/client";
import { capabilitiesQuery } from "./api/queries";
import { ThemeContext, useThemeState } from "./lib/theme";
import { TopBar } from "./shell/TopBar";
import { Empty, Problem, Skeleton } from "./ui/basics";
import { Registry } from "./pages/Registry";

const Atlas = lazy(() => import("./pages/Atlas"));
const LatentPage = lazy(() => import("./pages/LatentPage"));
const ProteinPage = lazy(() => import("./pages/ProteinPage"));
const Concepts = lazy(() => import("./pages/Concepts"));
const ConceptPage = lazy(() => import("./pages/ConceptPage"));
const Lists = lazy(() => import("./pages/Lists"));
const Play = lazy(() => import("./pages/Play"));
const Steer = lazy(() => import("./pages/Steer"));
const Compare = lazy(() => import("./pages/Compare"));
const Rate = lazy(() => import("./pages/Rate"));

const client = new QueryClient({
  defaultOptions: {
    queries: {
      retry: (failures, error) => failures < 2 && error instanceof ApiError && (error.status === 0 || error.status === 429),
      refetchOnWindowFocus: false,
    },
  },
});

class Boundary extends Component<{ children: ReactNode; at: string }, { error: unknown }> {
  override state = { error: null };
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }
  override componentDidUpdate(before: { at: string }) {
    if (before.at !== this.props.at && this.state.error) this.setState({ error: null });
  }
  override render() {
    return this.state.error ? (
      <main id="main" className="page">
        <Problem error={this.state.error} retry={() => window.location.reload()} />
      </main>
    ) : (
      this.props.children
    );
  }
}

function Pages() {
  const { data, error, refetch } = useQuery(capabilitiesQuery);
  const [location] = useLocation();
  if (error)
    return (
      <main id="main" className="page">
        <Problem error={error} retry={() => void refetch()} />
      </main>
    );
  if (!data)
    return (
      <main id="main" className="page">
        <Skeleton lines={6} />
      </main>
    );
  setStatic(data.mode === "static");
  return (
    <Boundary at={location}>
      <Suspense fallback={<main id="main" className="page"><Skeleton lines={6} /></main>}>
        <Switch>
          <Route path="/" component={Registry} />
          <Route path="/sae/:id" component={Atlas} />
          <Route path="/sae/:id/latent/:j" component={LatentPage} />
          <Route path="/protein/:acc" component={ProteinPage} />
          <Route path="/concepts" component={Concepts} />
          <Route path="/concepts/*" component={ConceptPage} />
          <Route path="/lists" component={Lists} />
          <Route path="/play" component={Play} />
          <Route path="/steer" component={Steer} />
          <Route path="/compare" component={Compare} />
          <Route path="/rate" component={Rate} />
          <Route>
            <main id="main" className="page">
              <Empty title="No such page">The address leads nowhere. Search above, or start from the dictionaries.</Empty>
            </main>
          </Route>
        </Switch>
      </Suspense>
    </Boundary>
  );
}

export function App() {
  const theme = useThemeState();
  return (
    <ThemeContext.Provider value={theme}>
      <QueryClientProvider client={client}>
        <Router base={BASE.replace(/\/$/, "")}>
          <a href="#main" className="skip" onClick={(e) => {
            e.preventDefault();
            document.getElementById("main")?.querySelector<HTMLElement>("a, button, input, [tabindex]")?.focus();
          }}>
            Skip to the page
          </a>
          <TopBar />
          <Pages />
        </Router>
      </QueryClientProvider>
    </ThemeContext.Provider>
  );
}
