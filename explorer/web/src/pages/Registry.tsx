export function Registry() { return <main id="main" className="page" />; }
