export default function ProteinPage() { return <main id="main" className="page" />; }
