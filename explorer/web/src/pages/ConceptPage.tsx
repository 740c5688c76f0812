export default function ConceptPage() { return <main id="main" className="page" />; }
